import type { RecordParts } from './blocks.ts'
import { MANAGER, type WalRecord } from './records.ts'
import { formatPostgresTime } from './time.ts'

/** How a transaction ended, or a subtransaction that was rolled back. */
export interface TransactionEnd {
  committed: boolean
  /** It was prepared (PREPARE TRANSACTION) before. */
  prepared: boolean
  xid: number
  /** Subtransactions that end with it, in the same way. */
  children: number[]
  /** RFC 3339 UTC with microseconds, by the server's clock. */
  time: string
  timeMs: number
}

type EndRecord = Pick<WalRecord, 'manager' | 'info' | 'xid'>

/** Kinds of RM_XACT records: src/include/access/xact.h. */
const COMMIT = 0x00
const ABORT = 0x20
const COMMIT_PREPARED = 0x30
const ABORT_PREPARED = 0x40
const HAS_INFO = 0x80

const HAS_DATABASE = 1 << 0
const HAS_CHILDREN = 1 << 1
const HAS_FILES = 1 << 2
const HAS_INVALIDATIONS = 1 << 3
const HAS_PREPARED = 1 << 4
const HAS_DROPPED_STATISTICS = 1 << 8

const EPOCH_MS = 946_684_800_000

/** Null: the record ends no transaction, or does not read as one. Layout: ParseCommitRecord, src/backend/access/rmgrdesc/xactdesc.c. */
export function transactionEnd(
  record: EndRecord,
  { main }: Pick<RecordParts, 'main'>,
  major: number,
): TransactionEnd | null {
  const kind = record.info & 0x70
  if (record.manager !== MANAGER.xact || ![COMMIT, ABORT, COMMIT_PREPARED, ABORT_PREPARED].includes(kind)) return null
  try {
    return parse(record, main, kind, major)
  } catch (error) {
    // A length that leads out of the record: it is not what this version knows.
    if (error instanceof RangeError) return null
    throw error
  }
}

function parse(record: EndRecord, main: Buffer, kind: number, major: number): TransactionEnd {
  const committed = kind === COMMIT || kind === COMMIT_PREPARED
  const micros = main.readBigInt64LE(0)
  let position = 8
  const info = (record.info & HAS_INFO) === 0 ? 0 : main.readUInt32LE(position)
  if ((record.info & HAS_INFO) !== 0) position += 4
  if ((info & HAS_DATABASE) !== 0) position += 8
  const children: number[] = []
  if ((info & HAS_CHILDREN) !== 0) {
    const count = main.readUInt32LE(position)
    position += 4
    for (let i = 0; i < count; i++, position += 4) children.push(main.readUInt32LE(position))
  }
  const skip = (flag: number, itemBytes: number): void => {
    if ((info & flag) !== 0) position += 4 + main.readUInt32LE(position) * itemBytes
  }
  skip(HAS_FILES, 12)
  // From 15 on; an object's id has 8 bytes from 18 on (xl_xact_stats_item).
  if (major >= 15) skip(HAS_DROPPED_STATISTICS, major >= 18 ? 16 : 12)
  if (committed) skip(HAS_INVALIDATIONS, 16)
  // The record of COMMIT PREPARED is written by a transaction that has no number of its own.
  const xid = (info & HAS_PREPARED) === 0 ? record.xid : main.readUInt32LE(position)
  return {
    committed,
    prepared: (info & HAS_PREPARED) !== 0,
    xid,
    children,
    time: formatPostgresTime(micros),
    timeMs: (Number(micros) + EPOCH_MS * 1000) / 1000,
  }
}
