import { isRegainError, RegainError } from '../../errors.ts'
import type { KeyProvider } from '../../keys/contract.ts'
import type { RepositoryKey } from '../api.ts'
import { type EpochRecord, encodeClear } from '../format/clear.ts'
import { type EpochKey, type EpochKeys, FIRST_EPOCH } from '../format/domain-keys.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { epochName, listKeys, readAuthenticKey, readEpoch, sealKeyObject } from './key-objects.ts'

/**
 * Which KEKs open a repository. Each epoch's object lists its KEKs, so that a key object that was taken away, or brought
 * back, is noticed (verify-keys.ts). Order: a key object is durable before the list names it, and off the list before it
 * is deleted; what a crash leaves between is reported by verification and completed by the same command given again.
 */

/** The one key object and the epoch object that a new repository begins with. */
export async function writeFirstKey(state: RepositoryState, provider: KeyProvider, label: string): Promise<void> {
  const { domain, epochKeys } = state.keyring
  const kek = await writeKeyObject(state, provider, epochKeys[0] as EpochKey, label)
  state.keyring.openedBy = kek
  await writeEpoch(state, { domain, epoch: FIRST_EPOCH, oldest: FIRST_EPOCH, keys: [kek] })
}

export async function listAllKeys(state: RepositoryState): Promise<RepositoryKey[]> {
  const { domain, keys } = state.keyring
  const listed = await listKeys(state.storage, domain)
  const found: RepositoryKey[] = []
  for (const { name, epoch } of listed.keys)
    if (epoch === keys.epoch) found.push(await readAuthenticKey(state.storage, name, keys))
  return found
}

/** Older epochs first: who can open the current one can then open all. */
export async function addKey(state: RepositoryState, provider: KeyProvider, label: string): Promise<string> {
  await findSalt(state, provider)
  let kek = ''
  for (const key of state.keyring.epochKeys) {
    kek = await writeKeyObject(state, provider, key, label)
    await changeList(state, key.epoch, (names) => [...names, kek])
  }
  return kek
}

/**
 * A passphrase gives another KEK with every salt. One that opens the repository already keeps the salt that it has opened
 * with, so that adding it again replaces its key objects instead of leaving a second KEK of the same passphrase.
 */
async function findSalt(state: RepositoryState, provider: KeyProvider): Promise<void> {
  const { domain, keys } = state.keyring
  for (const { name, epoch } of (await listKeys(state.storage, domain)).keys) {
    if (epoch !== keys.epoch) continue
    try {
      const record = await readAuthenticKey(state.storage, name, keys)
      if (record.argon2id === undefined || record.type !== provider.type) continue
      const key = await provider.unwrap(record, { domain, epoch })
      key?.fill(0)
    } catch (error) {
      // A damaged one opens nothing; whoever adds its key mends it.
      if (!isLoss(error)) throw error
    }
  }
}

export async function removeKey(state: RepositoryState, kek: string): Promise<void> {
  const { domain, keys } = state.keyring
  const listed = await listKeys(state.storage, domain)
  if (!listed.keys.some((key) => key.kek === kek))
    throw new RegainError('precondition-failed', `No key ${kek} opens this repository. Nothing was changed.`, {
      hint: 'See which keys do: regain key list SERVICE',
    })
  const others = listed.keys.filter((key) => key.epoch === keys.epoch && key.kek !== kek)
  if (!(await isAnySound(state, others)))
    throw new RegainError(
      'precondition-failed',
      `The key ${kek} is the only one that opens this repository: without it nobody could read the backups. Nothing was changed.`,
      { hint: 'Add another key first (regain key add). To make the backups unreadable on purpose: regain key destroy' },
    )
  const its = listed.keys.filter((key) => key.kek === kek)
  // Looked at before the lists change: they must name what goes on opening the repository.
  for (const { name } of its)
    if (await state.storage.immutability?.lockedUntil(name))
      throw new RegainError(
        'storage-locked',
        `The key ${kek} can not be taken out, because the store keeps ${name} from being removed: it goes on opening the repository. Nothing was changed.`,
        { hint: 'Give the command again when its lock has ended.' },
      )
  // The current epoch first: from then on the KEK opens the repository no longer.
  for (const { name, epoch } of its.reverse()) {
    if (keys.ring.has(epoch)) await changeList(state, epoch, (names) => names.filter((other) => other !== kek))
    await state.storage.delete(name)
  }
}

/** A damaged key object lets nobody in. */
async function isAnySound({ storage, keys }: RepositoryState, others: readonly { name: string }[]): Promise<boolean> {
  for (const { name } of others) {
    try {
      await readAuthenticKey(storage, name, keys)
      return true
    } catch (error) {
      if (!isLoss(error)) throw error
    }
  }
  return false
}

/**
 * In this order, so that the same command can complete it after a crash: the lists say that there are none, then the key
 * objects of other KEKs go, and last those of the KEK that opened it.
 */
export async function destroyKeys(state: RepositoryState): Promise<string[]> {
  const { domain, epochKeys, openedBy, oldest } = state.keyring
  for (const { epoch } of epochKeys) await writeEpoch(state, { domain, epoch, oldest, keys: [] })
  const { keys } = await listKeys(state.storage, domain)
  const order = [...keys.filter(({ kek }) => kek !== openedBy), ...keys.filter(({ kek }) => kek === openedBy)]
  for (const { name } of order) await state.storage.delete(name)
  return order.map(({ name }) => name)
}

/** What below keys/ the store keeps from being removed or replaced now: then `destroyKeys` would fail. */
export async function lockedKeys({ storage, keyring }: RepositoryState): Promise<string[]> {
  const { immutability } = storage
  if (immutability === undefined) return []
  const { domain } = keyring
  const { epochs, keys } = await listKeys(storage, domain)
  const names = [...epochs.map((epoch) => epochName({ domain, epoch })), ...keys.map(({ name }) => name)]
  const locked: string[] = []
  for (const name of names) if ((await immutability.lockedUntil(name)) > 0) locked.push(name)
  return locked
}

/** Writes it anew if it is there: with the label given, and wrapped as strongly as is done now. */
async function writeKeyObject(
  state: RepositoryState,
  provider: KeyProvider,
  key: EpochKey,
  label: string,
): Promise<string> {
  const { domain, identity } = state.keyring
  const addedAt = new Date(state.ambient.now()).toISOString()
  const keys = epochKeysOf(state, key.epoch)
  const sealed = await sealKeyObject(provider, { domain, epoch: key.epoch, key, keys, identity, label, addedAt })
  await state.storage.put(sealed.name, sealed.bytes)
  return sealed.kek
}

/**
 * Reads the epoch's list, changes it, and writes it back. Of two at once one's change may be lost: verification names the
 * key object that the list does not, and giving the command again mends it.
 */
async function changeList(state: RepositoryState, epoch: number, change: (names: string[]) => string[]): Promise<void> {
  const { domain, oldest } = state.keyring
  const record = await readEpoch(state.storage, { domain, epoch }, epochKeysOf(state, epoch))
  const before =
    record?.keys ??
    (await listKeys(state.storage, domain)).keys.filter((key) => key.epoch === epoch).map(({ kek }) => kek)
  try {
    await writeEpoch(state, { domain, epoch, oldest: record?.oldest ?? oldest, keys: change(before) })
  } catch (error) {
    if (!isRegainError(error, 'storage-locked')) throw error
    // The key objects are what counts.
    const message =
      'The list of keys is immutable: until that ends, regain verify reports keys that were added or removed.'
    state.ambient.log('warning', message)
  }
}

export async function writeEpoch(
  state: RepositoryState,
  record: Pick<EpochRecord, 'domain' | 'epoch' | 'oldest' | 'keys'>,
): Promise<void> {
  const { name, bytes } = sealEpoch(state, epochKeysOf(state, record.epoch), record)
  await state.storage.put(name, bytes)
}

export function sealEpoch(
  state: RepositoryState,
  epochKeys: EpochKeys,
  { domain, epoch, oldest, keys }: Pick<EpochRecord, 'domain' | 'epoch' | 'oldest' | 'keys'>,
): { name: string; bytes: Buffer } {
  const changedAt = new Date(state.ambient.now()).toISOString()
  const name = epochName({ domain, epoch })
  const sorted = [...new Set(keys)].sort()
  const record: EpochRecord = { regain: 'epoch', format: 1, domain, epoch, oldest, keys: sorted, changedAt }
  return { name, bytes: encodeClear(epochKeys, name, record) }
}

function epochKeysOf(state: RepositoryState, epoch: number): EpochKeys {
  const found = state.keys.ring.get(epoch)
  if (!found) throw new Error(`the key of epoch ${epoch} is not at hand`)
  return found
}
