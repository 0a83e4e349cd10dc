import { RegainError } from '../../errors.ts'
import { unwrapKey } from '../../keys/key-wrap.ts'
import {
  type DomainKeys,
  deriveIdentity,
  deriveIdentityWrap,
  deriveKeyRing,
  type EpochKey,
  FIRST_EPOCH,
} from '../format/domain-keys.ts'
import { isLoss } from '../verify/damage.ts'
import { epochName, type ListedKeys, listKeys, readEpoch } from './key-objects.ts'
import { type KeySearch, type Unwrapped, unwrapEpoch } from './unwrap.ts'

/** The keys of an open repository. It stays as it was opened: who opened before a rekey goes on in the epoch before. */
export interface Keyring {
  /** Hex. */
  readonly domain: string
  readonly keys: DomainKeys
  /** The domain keys themselves, ascending by epoch; the last one is the current epoch's. */
  readonly epochKeys: readonly EpochKey[]
  readonly identity: Buffer
  /** The lowest epoch that objects may still be sealed in. */
  readonly oldest: number
  /** Name of a later epoch's object that no key given opens: then nothing may be written. Null: there is none. */
  readonly unopened: string | null
  /** The KEK that opened it, or that a new one was wrapped with. */
  openedBy: string
}

/** A domain that was just made, and is not wrapped yet. */
export function firstKeyring(key: Buffer, domain: Buffer): Keyring {
  const epochKeys = [{ epoch: FIRST_EPOCH, key }]
  const identity = deriveIdentity(key, domain)
  return {
    domain: domain.toString('hex'),
    keys: deriveKeyRing(domain, identity, epochKeys),
    epochKeys,
    identity,
    oldest: FIRST_EPOCH,
    unopened: null,
    openedBy: '',
  }
}

/**
 * Unwraps the current epoch's domain key, and those of older epochs as far as the keys given open them. Rejects with
 * `wrong-key`, or `repository-damaged` if there is nothing left to unwrap.
 */
export async function openKeyring(search: KeySearch): Promise<Keyring> {
  const listed = await listKeys(search.storage, search.domain)
  const { current, unopened } = await unwrapNewest(search, listed)
  const { epoch } = current
  const domain = Buffer.from(search.domain, 'hex')
  const identity = identityOf(current, domain)
  const older: EpochKey[] = []
  for (const lower of new Set(listed.keys.map((key) => key.epoch).filter((lower) => lower < epoch))) {
    const found = await unwrapOlder(search, listed, lower)
    if (found !== null) older.push({ epoch: lower, key: found.key })
  }
  const epochKeys = [...older, { epoch, key: current.key }]
  const keys = deriveKeyRing(domain, identity, epochKeys)
  return {
    domain: search.domain,
    keys,
    epochKeys,
    identity,
    oldest: await oldestEpoch(search, keys),
    unopened,
    openedBy: current.record.kek,
  }
}

/**
 * The newest epoch. Whoever may write to the store can put the object of one there that was never begun, and lock it for
 * ever: so where no key given opens the newest, what an older one opens can be read, down to that of repository.json.
 */
async function unwrapNewest(
  search: KeySearch,
  listed: ListedKeys,
): Promise<{ current: Unwrapped; unopened: string | null }> {
  const later = listed.epochs.filter((epoch) => epoch > search.epoch)
  let failure: { error: RegainError; epoch: number } | null = null
  for (const epoch of [...later.reverse(), search.epoch]) {
    try {
      const current = await unwrapEpoch(search, listed, epoch)
      if (current === null) throw wrongKey(search, epoch)
      if (failure === null) return { current, unopened: null }
      const unopened = epochName({ domain: search.domain, epoch: failure.epoch })
      search.ambient.log('warning', `${notOpened(unopened)} What is older can be read; nothing is written.`, {
        object: unopened,
      })
      return { current, unopened }
    } catch (error) {
      if (!(error instanceof RegainError) || (error.code !== 'wrong-key' && !isLoss(error))) throw error
      failure ??= { error, epoch }
    }
  }
  throw failure?.error
}

export function notOpened(name: string): string {
  return `${name} says that a new key epoch has begun, and no key given opens it: the key was not at hand when the data key was replaced (then add it again), or somebody who may write to the store put that object there.`
}

export function eraseKeyring({ epochKeys, identity }: Keyring): void {
  for (const { key } of epochKeys) key.fill(0)
  identity.fill(0)
}

/** Null also if only the object that would open it is damaged, which `unwrapEpoch` says: objects of that epoch tell. */
async function unwrapOlder(search: KeySearch, listed: ListedKeys, epoch: number): Promise<Unwrapped | null> {
  try {
    return await unwrapEpoch(search, listed, epoch)
  } catch (error) {
    if (!isLoss(error)) throw error
    search.ambient.log('warning', error.message)
    return null
  }
}

function identityOf({ epoch, key, record }: Unwrapped, domain: Buffer): Buffer {
  if (epoch === FIRST_EPOCH) return deriveIdentity(key, domain)
  const identity = unwrapKey(deriveIdentityWrap({ epoch, key }, domain), Buffer.from(record.identity ?? '', 'base64'))
  if (identity !== null) return identity
  throw new RegainError(
    'repository-damaged',
    `The key object of the KEK ${record.kek} in key epoch ${epoch} was changed: its identity key does not unwrap.`,
    { hint: 'Use another key of this repository, or another copy of it.' },
  )
}

/** A first epoch needs no object to be opened; verification tells if it is gone. A later one began with its object. */
async function oldestEpoch({ storage, domain }: KeySearch, keys: DomainKeys): Promise<number> {
  try {
    const record = await readEpoch(storage, { domain, epoch: keys.epoch }, keys)
    if (record) return record.oldest
  } catch (error) {
    if (!isLoss(error) || keys.epoch !== FIRST_EPOCH) throw error
  }
  if (keys.epoch === FIRST_EPOCH) return FIRST_EPOCH
  throw new RegainError(
    'repository-damaged',
    `The repository at ${storage.description} has lost ${epochName({ domain, epoch: keys.epoch })}.`,
  )
}

function wrongKey({ storage, providers }: KeySearch, epoch: number): RegainError {
  const tried = providers.map((provider) => provider.description).join(', ')
  const message = `None of the keys given opens the repository at ${storage.description} (tried: ${tried}).`
  if (epoch === FIRST_EPOCH) return new RegainError('wrong-key', message)
  return new RegainError('wrong-key', message, {
    hint:
      'Name the key that opens it. Its data key was replaced since it was made (rekey): a key that was not at hand then ' +
      'opens it only after another has added it again, with regain key add.',
  })
}
