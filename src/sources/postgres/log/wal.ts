import { RegainError } from '../../../errors.ts'
import type { Lsn } from '../protocol/lsn.ts'

/**
 * Names and borders of WAL segments. A segment's name is 24 hex digits: timeline, then the segment's number split so
 * that each "log" covers 4 GiB (PostgreSQL, src/include/access/xlog_internal.h, XLogFileName). The segment size is fixed
 * at initdb: a power of two from 1 MiB to 1 GiB.
 */
export const MIN_SEGMENT_BYTES = 1024 * 1024
export const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024

const LOG_BYTES = 0x100000000n

/** Throws `source-unsuitable` unless `bytes` is a size PostgreSQL can have. */
export function checkSegmentBytes(bytes: number): number {
  const powerOfTwo = Number.isInteger(bytes) && bytes > 0 && (BigInt(bytes) & (BigInt(bytes) - 1n)) === 0n
  if (!powerOfTwo || bytes < MIN_SEGMENT_BYTES || bytes > MAX_SEGMENT_BYTES) {
    throw new RegainError(
      'source-unsuitable',
      `The server reports a WAL segment size of ${bytes} bytes, which PostgreSQL cannot have.`,
    )
  }
  return bytes
}

export function segmentNumber(lsn: Lsn, segmentBytes: number): bigint {
  return lsn / BigInt(segmentBytes)
}

/** First position of the segment that holds `lsn`. */
export function segmentStart(lsn: Lsn, segmentBytes: number): Lsn {
  return lsn - (lsn % BigInt(segmentBytes))
}

/** Bytes from the segment's beginning to `lsn`. */
export function segmentOffset(lsn: Lsn, segmentBytes: number): number {
  return Number(lsn % BigInt(segmentBytes))
}

/** Timeline as PostgreSQL and the log store's branches write it: 8 upper-case hex digits. */
export function branchName(timeline: number): string {
  return hex8(timeline)
}

export function segmentName(timeline: number, number: bigint, segmentBytes: number): string {
  const perLog = LOG_BYTES / BigInt(segmentBytes)
  return hex8(timeline) + hex8(Number(number / perLog)) + hex8(Number(number % perLog))
}

export interface SegmentId {
  timeline: number
  number: bigint
}

export function isSegmentName(name: string): boolean {
  return /^[0-9A-F]{24}$/.test(name)
}

/** Null if `name` is no segment of clusters with this segment size. */
export function parseSegmentName(name: string, segmentBytes: number): SegmentId | null {
  if (!isSegmentName(name)) return null
  const perLog = LOG_BYTES / BigInt(segmentBytes)
  const timeline = Number.parseInt(name.slice(0, 8), 16)
  const log = BigInt(Number.parseInt(name.slice(8, 16), 16))
  const index = BigInt(Number.parseInt(name.slice(16, 24), 16))
  if (timeline === 0 || index >= perLog) return null
  return { timeline, number: log * perLog + index }
}

/** Name of the file that says where a timeline forked off: '00000002.history'. */
export function historyName(timeline: number): string {
  return `${hex8(timeline)}.history`
}

/** Timeline of a history file's name, or null. */
export function parseHistoryName(name: string): number | null {
  const match = /^([0-9A-F]{8})\.history$/.exec(name)
  return match?.[1] ? Number.parseInt(match[1], 16) : null
}

/**
 * Object kept beside the histories when the server sent other bytes for a segment that the store already had: nobody
 * can say which are right, so recovery must not cross it. Content: JSON, see `ConflictNote`.
 */
export function conflictName(segment: string): string {
  return `${segment}.conflict`
}

export function parseConflictName(name: string): string | null {
  const match = /^([0-9A-F]{24})\.conflict$/.exec(name)
  return match?.[1] ?? null
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}
