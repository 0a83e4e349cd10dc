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
  /** Ambient.process of the writer: a collector that can ask whether it lives need not wait. */
  process?: string
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

/** A point that was removed on purpose: tells that from a loss. */
export interface ExpiredRecord {
  session: string
  /** As in its receipt. Empty: neither was there any more; if another removed it meanwhile, that one's record has it. */
  commit: string
  /** Empty, like committedAt, if the point was lost before: its commit could not be read any more. */
  source: string
  committedAt: string
  expiredAt: string
  reason: string
  /** Of who expired it, as in a session. */
  process?: string
}

/** Segments and tails with from <= name < to, in the order of text, were removed on purpose. */
export interface TrimRecord {
  ranges: { branch: string; from: string; to: string }[]
  /** While they may still be removed: when that began. */
  startedAt?: string
}

export interface PinRecord {
  pin: string
  point: string
  startedAt: string
  /** Of the reader, as in a session. */
  process?: string
}

/** Somebody wants a point kept, whatever the policy says. */
export interface HoldRecord {
  /** Id of the point. */
  point: string
  /** Why, for people; may be empty. */
  reason: string
  heldAt: string
}

export interface GenerationRecord {
  generation: number
  /** Hex names of packs marked for removal: no writer may reuse what is in them. */
  tombstones: string[]
  /** Of a repair, where the one before was lost: every pack that is there when this is read is marked. */
  all?: true
}

export interface RecordKinds {
  S: SessionRecord
  E: EndRecord
  R: ReceiptRecord
  N: PinRecord
  D: HoldRecord
  G: GenerationRecord
  X: ExpiredRecord
  T: TrimRecord
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
