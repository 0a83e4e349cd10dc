import type { Lsn } from '../protocol/lsn.ts'
import { transactionEnd } from '../search/transaction-end.ts'

/**
 * Reads the few WAL records that a plan must know of before a restore: ends of transactions and named restore points, which
 * say whether its moment is in the log, and new tablespaces. Layout: src/include/access/xlog_internal.h and xlogrecord.h;
 * the same from 13 to 18, little endian.
 */
export type WalEvent =
  /** `children`: its subtransactions. Of one that was prepared, `xid` is its own, not that of who ended it. */
  | { kind: 'transaction'; xid: number; children: number[]; timeMs: number; lsn: Lsn }
  | { kind: 'restore-point'; name: string; timeMs: number; lsn: Lsn }
  /** A tablespace was made in a folder outside of the data directory. `previous`: where the record before it begins. */
  | { kind: 'tablespace'; location: string; lsn: Lsn; previous: Lsn }

export interface WalScan {
  /** In the order of the log; `lsn` is where each record begins. */
  events: WalEvent[]
  /** Where the last whole record of this piece begins; null if none does. */
  lastRecord: Lsn | null
  /** A record that is not all there begins at the end, and it may be one that makes a tablespace. */
  mayEndInTablespace: boolean
  /** Bytes of this piece up to the end of that record. */
  usedBytes: number
}

const SHORT_HEADER_BYTES = 24
const LONG_HEADER_BYTES = 40
const CONTINUES = 0x0001
const LONG = 0x0002
const RECORD_HEADER_BYTES = 24
const EPOCH_OFFSET_MS = 946_684_800_000

const RM_XLOG = 0
const RM_TABLESPACE = 5
const XLOG_SWITCH = 0x40
const XLOG_RESTORE_POINT = 0x70
const XLOG_TBLSPC_CREATE = 0x00

/**
 * Scans a segment, or its beginning, that starts at `start`. `following` are the bytes of the next segment, if they are
 * at hand: a record may go on there. What does not read as WAL ends the scan: that is the log's end.
 */
export function scanWal(bytes: Buffer, start: Lsn, following: Buffer | null): WalScan {
  const scan: WalScan = { events: [], lastRecord: null, usedBytes: 0, mayEndInTablespace: false }
  const log = stripHeaders(bytes, start)
  if (!log) return scan
  const major = majorOf(bytes.readUInt16LE(0))
  const next = following && following.length > 0 ? stripHeaders(following, start + BigInt(bytes.length)) : null
  // A record that began before this segment ends somewhere in it: the first of ours stands behind, aligned to 8.
  let position = align8(log.continued)
  while (position + 4 <= log.body.length) {
    const length = log.body.readUInt32LE(position)
    if (length < RECORD_HEADER_BYTES) break
    const record = take(log.body, next, position, length)
    if (!record) {
      // The manager is byte 17 of a record's header, which need not be all there either.
      const manager = log.body[position + 17]
      scan.mayEndInTablespace = manager === undefined || manager === RM_TABLESPACE
      break
    }
    const lsn = start + BigInt(log.offsetOf(position))
    scan.lastRecord = lsn
    scan.usedBytes = log.offsetOf(Math.min(position + length, log.body.length) - 1) + 1
    const event = parseRecord(record, lsn, major)
    if (event === 'switch') break
    if (event) scan.events.push(event)
    position = align8(position + length)
  }
  return scan
}

/** The bytes of a segment without its page headers. Both kinds of header are multiples of 8, so alignment stays. */
interface Body {
  body: Buffer
  /** Bytes at the beginning that belong to a record of the segment before. */
  continued: number
  /** Offset in the segment of an offset in `body`. */
  offsetOf(position: number): number
}

function stripHeaders(bytes: Buffer, start: Lsn): Body | null {
  if (bytes.length < LONG_HEADER_BYTES || (bytes.readUInt16LE(2) & LONG) === 0) return null
  const pageBytes = bytes.readUInt32LE(36)
  if (pageBytes < 1024 || pageBytes > 65536 || bytes.readBigUInt64LE(8) !== start) return null
  const pieces: Buffer[] = []
  for (let page = 0; page + SHORT_HEADER_BYTES <= bytes.length; page += pageBytes) {
    // Pages that were never written are zeros; recycled ones bear another address.
    if (bytes.readBigUInt64LE(page + 8) !== start + BigInt(page)) break
    const header = page === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES
    pieces.push(bytes.subarray(page + header, Math.min(bytes.length, page + pageBytes)))
  }
  const first = pageBytes - LONG_HEADER_BYTES
  const other = pageBytes - SHORT_HEADER_BYTES
  return {
    body: Buffer.concat(pieces),
    continued: (bytes.readUInt16LE(2) & CONTINUES) !== 0 ? bytes.readUInt32LE(16) : 0,
    offsetOf: (position) =>
      position < first
        ? LONG_HEADER_BYTES + position
        : (1 + Math.floor((position - first) / other)) * pageBytes + SHORT_HEADER_BYTES + ((position - first) % other),
  }
}

/** `length` bytes from `position`, the rest of them from the next segment; null if they are not all there. */
function take(body: Buffer, next: Body | null, position: number, length: number): Buffer | null {
  if (position + length <= body.length) return body.subarray(position, position + length)
  const missing = position + length - body.length
  if (!next || next.continued !== missing || next.body.length < missing) return null
  return Buffer.concat([body.subarray(position), next.body.subarray(0, missing)])
}

function align8(position: number): number {
  return Math.ceil(position / 8) * 8
}

/** XLOG_PAGE_MAGIC, new with each version: D106 13, D10D 14, D110 15, D113 16, D116 17, D118 18. As far as layouts here differ. */
function majorOf(magic: number): number {
  if (magic > 0xd116) return 18
  return magic > 0xd10d ? 15 : 13
}

function parseRecord(record: Buffer, lsn: Lsn, major: number): WalEvent | 'switch' | null {
  const info = record[16] ?? 0
  const manager = record[17] ?? 0
  if (manager === RM_XLOG) {
    if ((info & 0xf0) === XLOG_SWITCH) return 'switch'
    if ((info & 0xf0) !== XLOG_RESTORE_POINT) return null
    const data = mainData(record)
    if (!data || data.length < 9) return null
    const end = data.indexOf(0, 8)
    return {
      kind: 'restore-point',
      name: data.toString('utf8', 8, end < 0 ? data.length : end),
      timeMs: timeAt(data),
      lsn,
    }
  }
  if (manager === RM_TABLESPACE && (info & 0xf0) === XLOG_TBLSPC_CREATE) {
    // xl_tblspc_create_rec: oid, path up to a zero; an empty one is "in place".
    const data = mainData(record)
    const end = data?.indexOf(0, 4) ?? -1
    return data && end > 4
      ? { kind: 'tablespace', location: data.toString('utf8', 4, end), lsn, previous: record.readBigUInt64LE(8) }
      : null
  }
  const main = mainData(record)
  const end = main && transactionEnd({ manager, info, xid: record.readUInt32LE(4) }, { main }, major)
  return end ? { kind: 'transaction', xid: end.xid, children: end.children, timeMs: end.timeMs, lsn } : null
}

/** What follows the header's parts, of a record that refers to no blocks: these do not. */
function mainData(record: Buffer): Buffer | null {
  let position = RECORD_HEADER_BYTES
  while (position < record.length) {
    const id = record[position]
    if (id === 255) return record.subarray(position + 2)
    if (id === 254) return record.subarray(position + 5)
    // 253: replication origin, 2 bytes; 252: top-level transaction, 4 bytes.
    if (id === 253) position += 3
    else if (id === 252) position += 5
    else return null
  }
  return null
}

function timeAt(data: Buffer): number {
  return (Number(data.readBigInt64LE(0)) + EPOCH_OFFSET_MS * 1000) / 1000
}
