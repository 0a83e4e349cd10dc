import { isRegainError, RegainError } from '../../errors.ts'
import type { KeyProvider } from '../../keys/contract.ts'
import type { Ambient } from '../../model.ts'
import type { Storage } from '../../storage/contract.ts'
import { authenticateClear, decodeClear, type EpochRecord, type KeyRecord } from '../format/clear.ts'
import { deriveDomainKeys, type EpochKey } from '../format/domain-keys.ts'
import { isDamage, isLoss } from '../verify/damage.ts'
import { epochName, type KeyEpoch, type ListedKeys } from './key-objects.ts'

export interface KeySearch {
  storage: Storage
  /** Tried in order. */
  providers: readonly KeyProvider[]
  ambient: Ambient
  /** Hex. */
  domain: string
  /** Of repository.json: the current epoch is at least this. */
  epoch: number
}

export interface Unwrapped extends EpochKey {
  /** Of the key object that gave it. */
  record: KeyRecord
}

/** A key object as it was found: not yet authenticated, or damaged so that it can't be read. */
interface FoundKey {
  name: string
  kek: string
  bytes: Buffer | null
  record: (KeyRecord & { mac: string }) | null
}

/**
 * An epoch's domain key, from the first of its key objects that one of the KEKs given opens; null if they open none.
 * Rejects with `repository-damaged` if that is because the key object made for one of them is no longer what was written,
 * or because none is left. Damage to key objects that are not needed is a warning: each is a way in that is lost.
 */
export async function unwrapEpoch(search: KeySearch, listed: ListedKeys, epoch: number): Promise<Unwrapped | null> {
  const found = await readKeyObjects(search, listed, epoch)
  for (const provider of search.providers)
    for (const { record } of found) {
      const key = record && (await tryUnwrap(provider, record))
      if (!key) continue
      warnOfDamaged(search, { epoch, key }, found)
      return { epoch, key, record }
    }
  await throwIfDamaged(search, found)
  return null
}

async function readKeyObjects(search: KeySearch, listed: ListedKeys, epoch: number): Promise<FoundKey[]> {
  const found: FoundKey[] = []
  let damage: unknown = null
  for (const { name, kek } of listed.keys.filter((key) => key.epoch === epoch)) {
    try {
      const bytes = await search.storage.get(name)
      const key = decodeClear<KeyRecord>(bytes, name, 'key')
      const isNamed = key.domain === search.domain && key.epoch === epoch
      found.push({ name, kek, bytes, record: isNamed ? key : null })
    } catch (error) {
      // Another may be as it was written. A store that is away is another matter.
      if (!isLoss(error)) throw error
      damage = error
      if (!isRegainError(error, 'storage-not-found')) found.push({ name, kek, bytes: null, record: null })
    }
  }
  if (found.length > 0) return found
  throw await noKeyLeft(search, epoch, damage)
}

/** Null also for a record that no provider can make sense of: what was stored is not what was written. */
async function tryUnwrap(provider: KeyProvider, record: KeyRecord): Promise<Buffer | null> {
  try {
    return await provider.unwrap(record, record)
  } catch (error) {
    if (isDamage(error)) return null
    throw error
  }
}

function warnOfDamaged({ ambient, domain }: KeySearch, { epoch, key }: EpochKey, found: readonly FoundKey[]): void {
  const keys = deriveDomainKeys(key, Buffer.from(domain, 'hex'), epoch)
  for (const { name, bytes, record: candidate } of found) {
    try {
      if (bytes === null || candidate === null) throw damaged(name)
      authenticateClear(keys, name, bytes, candidate)
    } catch (error) {
      if (!isDamage(error)) throw error
      const detail = 'The key that it was made for may no longer open the repository: bring it back from a copy.'
      ambient.log('warning', `${name} is damaged. ${detail}`, { object: name })
    }
  }
}

/** KEKs have names, which are in the names of key objects: the right key with a damaged object is told from a wrong key. */
async function throwIfDamaged({ providers }: KeySearch, found: readonly FoundKey[]): Promise<void> {
  for (const provider of providers)
    for (const each of found) if (await isMadeFor(provider, each)) throw damaged(each.name)
}

async function isMadeFor(provider: KeyProvider, { kek: named, record }: FoundKey): Promise<boolean> {
  try {
    const kek = await provider.kekName(record?.argon2id)
    // The object has lost how its KEK is made, so whose it was can't be told; it is damaged in any case.
    if (kek === null) return record === null || record.type === provider.type
    return kek === named || kek === record?.kek
  } catch (error) {
    // It asks for what nobody writes.
    if (isDamage(error)) return true
    throw error
  }
}

async function noKeyLeft({ storage, domain }: KeySearch, epoch: number, cause: unknown): Promise<RegainError> {
  const destroyedAt = await whenDestroyed(storage, { domain, epoch })
  if (destroyedAt === null)
    return new RegainError(
      'repository-damaged',
      `The repository at ${storage.description} has no wrapped key left, so nothing opens it.`,
      { cause, hint: HINT },
    )
  const error = new RegainError(
    'repository-damaged',
    `The keys of the repository at ${storage.description} were destroyed on purpose at ${destroyedAt}, ` +
      `says ${epochName({ domain, epoch })}: nothing of it can be read any more, with any key.`,
    { hint: 'Remove what is left of it, or name another destination.' },
  )
  ofDestroyed.add(error)
  return error
}

const ofDestroyed = new WeakSet<object>()

/** Whether the error says that the repository's keys were destroyed on purpose, all of them. */
export function tellsDestroyed(error: unknown): error is RegainError {
  return error instanceof RegainError && ofDestroyed.has(error)
}

/** Nobody can authenticate it any more. */
async function whenDestroyed(storage: Storage, which: KeyEpoch): Promise<string | null> {
  const name = epochName(which)
  try {
    const { keys, changedAt } = decodeClear<EpochRecord>(await storage.get(name), name, 'epoch')
    return Array.isArray(keys) && keys.length === 0 ? changedAt : null
  } catch (error) {
    if (!isLoss(error)) throw error
    return null
  }
}

const HINT =
  'Bring the object back from a copy of this repository, or open it with another of its keys. What else is stored was not looked at.'

function damaged(name: string): RegainError {
  return new RegainError('repository-damaged', `${name}, which wraps the key of the data, is damaged.`, { hint: HINT })
}
