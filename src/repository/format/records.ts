import { createHash } from 'node:crypto'
import { RegainError } from '../../errors.ts'
import type { Point } from '../../model.ts'
import type { DomainKeys } from './domain-keys.ts'
import { openObject, type SealedKind, sealObject } from './sealed.ts'

/** docs/format.md, Protocol objects: JSON, sealed with the object's own name as context. */
export interface SessionRecord {
  session: string
  /** Newest generation when the session began. */
  generation: number
  source: string
  startedAt: string
}

export type EndRecord =
  | { session: string; end: 'commit'; point: Point }
  | { session: string; end: 'aborted'; reason: string }

/** Written after the commit, for verification only: tells a lost commit from one that never was. */
export interface ReceiptRecord {
  session: string
  /** SHA-256 (hex) of the commit object's plaintext. */
  commit: string
}

export interface PinRecord {
  pin: string
  point: string
  startedAt: string
}

export interface GenerationRecord {
  generation: number
  /** Hex names of packs marked for removal: no writer may reuse what is in them. */
  tombstones: string[]
}

export interface RecordKinds {
  S: SessionRecord
  E: EndRecord
  R: ReceiptRecord
  N: PinRecord
  G: GenerationRecord
}

export function sealRecord<K extends keyof RecordKinds & SealedKind>(
  keys: DomainKeys,
  kind: K,
  name: string,
  record: RecordKinds[K],
  salt: Buffer,
): Buffer {
  return sealObject(keys, kind, name, Buffer.from(JSON.stringify(record)), salt)
}

export function openRecord<K extends keyof RecordKinds & SealedKind>(
  keys: DomainKeys,
  kind: K,
  name: string,
  sealed: Buffer,
): RecordKinds[K] {
  return openHashedRecord(keys, kind, name, sealed).record
}

/** Also the SHA-256 (hex) of the plaintext. */
export function openHashedRecord<K extends keyof RecordKinds & SealedKind>(
  keys: DomainKeys,
  kind: K,
  name: string,
  sealed: Buffer,
): { record: RecordKinds[K]; sha256: string } {
  const plain = openObject(keys, kind, name, sealed, name)
  try {
    const record = JSON.parse(plain.toString('utf8')) as RecordKinds[K]
    return { record, sha256: createHash('sha256').update(plain).digest('hex') }
  } catch (error) {
    throw new RegainError('repository-damaged', `${name} does not hold what its kind says.`, { cause: error })
  }
}
