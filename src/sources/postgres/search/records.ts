import type { Lsn } from '../protocol/lsn.ts'

/** One WAL record. `bytes` may lie in the segment that was read: it lives as long as that is worth keeping. */
export interface WalRecord {
  /** Where it begins, and where the record before it does. */
  lsn: Lsn
  prev: Lsn
  /** 0: none. */
  xid: number
  manager: number
  info: number
  bytes: Buffer
}

/** Resource managers, the same from 13 to 18: src/include/access/rmgrlist.h. */
export const MANAGER = { xlog: 0, xact: 1, dbase: 4, relmap: 7, standby: 8, heap2: 9, heap: 10 } as const

const RECORD_HEADER_BYTES = 24
const SHORT_HEADER_BYTES = 24
const LONG_HEADER_BYTES = 40
/** Flags of a page, src/include/access/xlog_internal.h. */
const CONTINUES = 0x0001
const LONG = 0x0002
const XLOG_SWITCH = 0x40
/** PostgreSQL refuses to write more in one record (XLogRecordMaxSize, xlogrecord.h). */
const MAX_RECORD_BYTES = 1020 * 1024 * 1024

/**
 * Cuts segments, given in order from the first on, into records: src/include/access/xlogrecord.h and xlog_internal.h.
 * Records that span pages and segments are put together; one that a crash left unfinished is given up where the log
 * goes on without it, as recovery does. Holds at most one record.
 */
export class WalRecords {
  /** Where the next record is expected to begin; null before the first. */
  end: Lsn | null = null
  #last: Lsn | null = null
  #open: { lsn: Lsn; parts: Buffer[]; missing: number } | null = null

  /** One has begun that is not all there yet. */
  get isOpen(): boolean {
    return this.#open !== null
  }

  /** Takes a page's first bytes as the rest of the record that is open; the record, if that makes it whole. */
  #continue(body: Buffer, continued: number): WalRecord | null {
    const open = this.#open
    if (open === null) return null
    if (continued !== open.missing) {
      // A crash cut it off, and the server went on without it (XLOG_OVERWRITE_CONTRECORD).
      this.#open = null
      return null
    }
    const part = body.subarray(0, Math.min(body.length, open.missing))
    // Copied: a record that is longer than a segment would keep all of them.
    open.parts.push(Buffer.from(part))
    open.missing -= part.length
    if (open.missing > 0) return null
    this.#open = null
    return this.#parse(Buffer.concat(open.parts), open.lsn)
  }

  /**
   * The records that end in this segment, or beginning of one. What does not read as the log's continuation ends it;
   * false if that was before the segment's end and nothing says that it was on purpose.
   */
  *read(segment: Buffer, start: Lsn): Generator<WalRecord, boolean> {
    const pageBytes = segment.length < LONG_HEADER_BYTES ? 0 : segment.readUInt32LE(36)
    if (pageBytes < 1024 || pageBytes > 65536 || (segment.readUInt16LE(2) & LONG) === 0) return false
    for (let page = 0; page + SHORT_HEADER_BYTES <= segment.length; page += pageBytes) {
      const pageStart = start + BigInt(page)
      // Pages that were never written are zeros; recycled ones bear another address.
      if (segment.readBigUInt64LE(page + 8) !== pageStart) return false
      const header = page === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES
      const body = segment.subarray(page + header, Math.min(segment.length, page + pageBytes))
      const flags = segment.readUInt16LE(page + 2)
      const continued = (flags & CONTINUES) === 0 ? 0 : segment.readUInt32LE(page + 16)
      const finished = this.#continue(body, continued)
      if (finished !== null) {
        yield finished
        if (isSwitch(finished)) return true
      }
      // Still the same long record, or one that began before what we were given.
      if (this.#open !== null || continued > body.length) continue
      const isWhole = yield* this.#records(body, align8(continued), pageStart + BigInt(header))
      if (isWhole !== null) return isWhole
    }
    return true
  }

  /** Null: the page was read to its end. */
  *#records(body: Buffer, from: number, start: Lsn): Generator<WalRecord, boolean | null> {
    let position = from
    while (position + 4 <= body.length) {
      const lsn = start + BigInt(position)
      const length = body.readUInt32LE(position)
      if (length < RECORD_HEADER_BYTES || length > MAX_RECORD_BYTES) return false
      if (position + length > body.length) {
        this.#open = { lsn, parts: [body.subarray(position)], missing: position + length - body.length }
        return null
      }
      const record = this.#parse(body.subarray(position, position + length), lsn)
      if (record === null) return false
      yield record
      if (isSwitch(record)) return true
      position = align8(position + length)
    }
    return null
  }

  /** Null: these are bytes of an older use of the file, or none at all. */
  #parse(bytes: Buffer, lsn: Lsn): WalRecord | null {
    const prev = bytes.readBigUInt64LE(8)
    if (prev >= lsn || (this.#last !== null && prev < this.#last)) return null
    this.#last = lsn
    this.end = lsn + BigInt(bytes.length)
    return { lsn, prev, xid: bytes.readUInt32LE(4), info: bytes[16]!, manager: bytes[17]!, bytes }
  }
}

function isSwitch(record: WalRecord): boolean {
  return record.manager === MANAGER.xlog && (record.info & 0xf0) === XLOG_SWITCH
}

function align8(position: number): number {
  return Math.ceil(position / 8) * 8
}
