import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { RepositoryOptions } from './api.ts'
import { isDamage, isLoss } from './damage.ts'
import { authenticateClear, decodeClear, type KeyRecord, type RepositoryRecord } from './format/clear.ts'
import { deriveDomainKeys } from './format/domain-keys.ts'
import { kekOfKeyName, listKeyNames } from './key-objects.ts'

/** A key object as it was found: not yet authenticated, or damaged so that it can't be read. */
interface FoundKey {
  name: string
  bytes: Buffer | null
  record: (KeyRecord & { mac: string }) | null
}

/**
 * The domain key, from the first key object that one of the KEKs given opens. Rejects with `wrong-key` if they open none;
 * with `repository-damaged` if that is because the key object made for one of them is no longer what was written. Damage
 * to key objects that are not needed is a warning: each is a way into the repository that is lost.
 */
export async function unwrapDomainKey(options: RepositoryOptions, record: RepositoryRecord): Promise<Buffer> {
  const found = await readKeyObjects(options, record)
  for (const provider of options.keys)
    for (const candidate of found) {
      const key = candidate.record && (await tryUnwrap(provider, candidate.record))
      if (!key) continue
      warnOfDamaged(options, record, key, found)
      return key
    }
  await throwIfDamaged(options, found)
  const tried = options.keys.map((provider) => provider.description).join(', ')
  throw new RegainError(
    'wrong-key',
    `None of the keys given opens the repository at ${options.storage.description} (tried: ${tried}).`,
  )
}

async function readKeyObjects(options: RepositoryOptions, record: RepositoryRecord): Promise<FoundKey[]> {
  const found: FoundKey[] = []
  let damage: unknown = null
  for (const name of await listKeyNames(options.storage, record)) {
    try {
      const bytes = await options.storage.get(name)
      const key = decodeClear<KeyRecord>(bytes, name, 'key')
      const isNamed = key.domain === record.domain && key.epoch === record.epoch
      found.push({ name, bytes, record: isNamed ? key : null })
    } catch (error) {
      // Another may be as it was written. A store that is away is another matter.
      if (!isLoss(error)) throw error
      damage = error
      if (!isRegainError(error, 'storage-not-found')) found.push({ name, bytes: null, record: null })
    }
  }
  if (found.length > 0) return found
  throw new RegainError(
    'repository-damaged',
    `The repository at ${options.storage.description} has no wrapped key left, so nothing opens it.`,
    { cause: damage, hint: HINT },
  )
}

/** Null also for a record that no provider can make sense of: what was stored is not what was written. */
async function tryUnwrap(provider: KeyProvider, record: KeyRecord): Promise<Buffer | null> {
  try {
    return await provider.unwrap(record)
  } catch (error) {
    if (isDamage(error)) return null
    throw error
  }
}

function warnOfDamaged(
  options: RepositoryOptions,
  record: RepositoryRecord,
  key: Buffer,
  found: readonly FoundKey[],
): void {
  const keys = deriveDomainKeys(key, Buffer.from(record.domain, 'hex'), record.epoch)
  for (const { name, bytes, record: candidate } of found) {
    try {
      if (bytes === null || candidate === null) throw damaged(name)
      authenticateClear(keys, name, bytes, candidate)
    } catch (error) {
      if (!isDamage(error)) throw error
      const detail = 'The key that it was made for may no longer open the repository: bring it back from a copy.'
      options.ambient.log('warning', `${name} is damaged. ${detail}`, { object: name })
    }
  }
}

/** KEKs have names, which are in the names of key objects: the right key with a damaged object is told from a wrong key. */
async function throwIfDamaged(options: RepositoryOptions, found: readonly FoundKey[]): Promise<void> {
  for (const provider of options.keys)
    for (const each of found) if (await isMadeFor(provider, each)) throw damaged(each.name)
}

async function isMadeFor(provider: KeyProvider, { name, record }: FoundKey): Promise<boolean> {
  try {
    const kek = await provider.kekName(record?.argon2id)
    // The object has lost how its KEK is made, so whose it was can't be told; it is damaged in any case.
    if (kek === null) return record === null || record.type === provider.type
    return kek === kekOfKeyName(name) || kek === record?.kek
  } catch (error) {
    // It asks for what nobody writes.
    if (isDamage(error)) return true
    throw error
  }
}

const HINT =
  'Bring the object back from a copy of this repository, or open it with another of its keys. What else is stored was not looked at.'

function damaged(name: string): RegainError {
  return new RegainError('repository-damaged', `${name}, which wraps the key of the data, is damaged.`, { hint: HINT })
}
