import { createHmac, timingSafeEqual } from 'node:crypto'
import { RegainError } from '../../errors.ts'
import type { WrappedKey } from '../../keys/contract.ts'
import type { EpochKeys } from './domain-keys.ts'

/**
 * docs/format.md, Clear objects: JSON that must be readable before the key is known. `mac` is HMAC-SHA-256 (hex), under
 * the domain's `clear` key, of the object's name, a zero byte, and the JSON text of the object without `mac`, keys in the
 * order in which they stand.
 */
export interface RepositoryRecord {
  regain: 'repository'
  format: 1
  /** 32 hex digits. */
  id: string
  service: string
  /** The service's key domain: 32 hex digits. */
  domain: string
  epoch: number
  createdAt: string
  /** SHA-256 (hex) of FORMAT.txt and recover.py as written. */
  companions: Record<string, string>
}

export interface KeyRecord extends WrappedKey {
  regain: 'key'
  format: 1
  domain: string
  epoch: number
  label: string
  addedAt: string
  /** From the second epoch on: base64 of RFC 3394 key wrap of the identity key, 40 bytes (domain-keys.ts). */
  identity?: string
}

/** One for each epoch there ever was; the highest is the current one. */
export interface EpochRecord {
  regain: 'epoch'
  format: 1
  domain: string
  epoch: number
  /** The lowest epoch that objects may still be sealed in; `epoch` itself unless a rekey is under way. */
  oldest: number
  /** Names of the KEKs (16 hex digits, sorted) that have a key object in this epoch: no more, no less. */
  keys: string[]
  changedAt: string
}

type ClearRecord = RepositoryRecord | KeyRecord | EpochRecord

/** `keys`: those of the epoch that the record names. */
export function encodeClear(keys: EpochKeys, name: string, record: ClearRecord): Buffer {
  return Buffer.from(`${JSON.stringify({ ...record, mac: clearMac(keys, name, JSON.stringify(record)) }, null, 2)}\n`)
}

/** The record, not yet authenticated: it is needed to find the key with which `authenticateClear` checks it. */
export function decodeClear<R extends ClearRecord>(
  bytes: Buffer,
  name: string,
  kind: R['regain'],
): R & { mac: string } {
  let record: unknown
  try {
    record = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new RegainError('repository-damaged', `${name} is not readable: it was changed or cut.`)
  }
  if (typeof record !== 'object' || record === null || (record as R).regain !== kind)
    throw new RegainError('repository-damaged', `${name} is not what its name says.`)
  if ((record as R).format !== 1)
    throw new RegainError(
      'repository-version',
      `${name} has format ${String((record as R).format)}; this version of Regain knows format 1.`,
    )
  if (!hasShape(record as Record<string, unknown>, kind))
    throw new RegainError('repository-damaged', `${name} does not hold what it should: it was changed.`)
  return record as R & { mac: string }
}

/** What is used before the record can be authenticated, because it leads to the key. */
function hasShape(record: Record<string, unknown>, kind: ClearRecord['regain']): boolean {
  const texts = { key: ['type', 'kek', 'wrapped'], repository: ['id', 'service'], epoch: ['changedAt'] }[kind]
  return (
    texts.every((field) => typeof record[field] === 'string') &&
    typeof record.domain === 'string' &&
    /^[0-9a-f]{32}$/.test(record.domain) &&
    Number.isInteger(record.epoch) &&
    (record.epoch as number) >= 1 &&
    (record.epoch as number) < 2 ** 32
  )
}

/** Throws `repository-damaged` unless the exact bytes are what encodeClear wrote. */
export function authenticateClear(
  keys: EpochKeys,
  name: string,
  bytes: Buffer,
  record: ClearRecord & { mac: string },
): void {
  const { mac, ...rest } = record
  const expected = Buffer.from(clearMac(keys, name, JSON.stringify(rest)), 'hex')
  const given = Buffer.from(String(mac), 'hex')
  const exact =
    given.length === expected.length && timingSafeEqual(given, expected) && bytes.equals(encodeClear(keys, name, rest))
  if (!exact)
    throw new RegainError('repository-damaged', `${name} was changed: its authentication code does not match.`)
}

function clearMac(keys: EpochKeys, name: string, json: string): string {
  return createHmac('sha256', keys.clear).update(name).update('\0').update(json).digest('hex')
}
