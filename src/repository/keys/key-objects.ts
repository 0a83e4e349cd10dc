import { isRegainError } from '../../errors.ts'
import type { KeyProvider } from '../../keys/contract.ts'
import { wrapKey } from '../../keys/key-wrap.ts'
import type { CallOptions, Storage } from '../../storage/contract.ts'
import { authenticateClear, decodeClear, type EpochRecord, encodeClear, type KeyRecord } from '../format/clear.ts'
import { deriveIdentityWrap, type EpochKey, type EpochKeys, FIRST_EPOCH } from '../format/domain-keys.ts'
import { PREFIX } from '../format/object-names.ts'

/** docs/format.md, Keys: what stands below keys/, and how it is read and written. */

/** Hex id of a key domain, and its epoch. */
export interface KeyEpoch {
  domain: string
  epoch: number
}

export function keyName({ domain, epoch }: KeyEpoch, kek: string): string {
  return `${PREFIX.keys}${domain}-${epoch}-${kek}.json`
}

/** Its existence is what makes an epoch: everything new is sealed in the highest one. Never removed. */
export function epochName({ domain, epoch }: KeyEpoch): string {
  return `${PREFIX.keys}${domain}-${epoch}.json`
}

const NAME = /^keys\/([0-9a-f]{32})-([1-9][0-9]{0,9})(?:-([0-9a-f]{16}))?\.json$/

export interface ListedKeys {
  /** Epochs that have begun, ascending. */
  epochs: number[]
  /** Key objects, by epoch and name. */
  keys: { name: string; epoch: number; kek: string }[]
}

/**
 * Key and epoch objects of a domain. Others may stand beside them, of a repository whose making was given up or lost to
 * another in this very place: they open nothing, and nobody can tell whether their maker still lives.
 */
export async function listKeys(storage: Storage, domain: string, call: CallOptions = {}): Promise<ListedKeys> {
  const listed: ListedKeys = { epochs: [], keys: [] }
  for await (const { name } of storage.list(PREFIX.keys, call)) {
    const match = NAME.exec(name)
    if (match?.[1] !== domain) continue
    const epoch = Number(match[2])
    if (match[3] === undefined) listed.epochs.push(epoch)
    else listed.keys.push({ name, epoch, kek: match[3] })
  }
  listed.epochs.sort((a, b) => a - b)
  listed.keys.sort((a, b) => a.epoch - b.epoch || (a.name < b.name ? -1 : 1))
  return listed
}

/** Rejects with `repository-damaged` for one that is not as it was written. */
export async function readAuthenticKey(
  storage: Storage,
  name: string,
  keys: EpochKeys,
  call: CallOptions = {},
): Promise<KeyRecord> {
  const bytes = await storage.get(name, undefined, call)
  const record = decodeClear<KeyRecord>(bytes, name, 'key')
  authenticateClear(keys, name, bytes, record)
  const { mac: _, ...rest } = record
  return rest
}

/** Null if there is none. Rejects with `repository-damaged` for one that is not as it was written. */
export async function readEpoch(
  storage: Storage,
  which: KeyEpoch,
  keys: EpochKeys,
  call: CallOptions = {},
): Promise<EpochRecord | null> {
  const name = epochName(which)
  let bytes: Buffer
  try {
    bytes = await storage.get(name, undefined, call)
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    throw error
  }
  const record = decodeClear<EpochRecord>(bytes, name, 'epoch')
  authenticateClear(keys, name, bytes, record)
  const { mac: _, ...rest } = record
  return rest
}

/** Whether the domain has moved on: then nothing more may be sealed in this epoch, and what was just sealed does not count. */
export async function hasSuccessor(storage: Storage, { domain, epoch }: KeyEpoch, call: CallOptions = {}) {
  return (await storage.size(epochName({ domain, epoch: epoch + 1 }), call)) !== null
}

export interface NewKeyObject extends KeyEpoch {
  key: EpochKey
  keys: EpochKeys
  identity: Buffer
  label: string
  addedAt: string
}

/** The name and bytes of the object that lets `provider` open the epoch. */
export async function sealKeyObject(
  provider: KeyProvider,
  { domain, epoch, key, keys, identity, label, addedAt }: NewKeyObject,
): Promise<{ name: string; kek: string; bytes: Buffer }> {
  const wrapped = await provider.wrap(key.key, { domain, epoch })
  const name = keyName({ domain, epoch }, wrapped.kek)
  const record: KeyRecord = {
    regain: 'key',
    format: 1,
    domain,
    epoch,
    label,
    addedAt,
    ...wrapped,
    ...(epoch === FIRST_EPOCH ? {} : { identity: wrapIdentity(key, Buffer.from(domain, 'hex'), identity) }),
  }
  return { name, kek: wrapped.kek, bytes: encodeClear(keys, name, record) }
}

function wrapIdentity(key: EpochKey, domain: Buffer, identity: Buffer): string {
  return wrapKey(deriveIdentityWrap(key, domain), identity).toString('base64')
}
