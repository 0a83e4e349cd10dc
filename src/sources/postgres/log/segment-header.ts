import type { Lsn } from '../protocol/lsn.ts'
import { MIN_SEGMENT_BYTES } from './wal.ts'

/** Of XLogLongPageHeaderData (src/include/access/xlog_internal.h): flags, timeline, position, system, sizes. */
export const SEGMENT_HEADER_BYTES = 40
const LONG_HEADER = 0x0002

/** What a segment says of itself in its first bytes. */
export interface SegmentHeader {
  timeline: number
  start: Lsn
  systemId: string
  segmentBytes: number
}

/** Null: it does not begin as a segment. */
export function parseHeader(bytes: Buffer): SegmentHeader | null {
  if (bytes.length < SEGMENT_HEADER_BYTES || (bytes.readUInt16LE(2) & LONG_HEADER) === 0) return null
  const segmentBytes = bytes.readUInt32LE(32)
  if (segmentBytes < MIN_SEGMENT_BYTES) return null
  return {
    timeline: bytes.readUInt32LE(4),
    start: bytes.readBigUInt64LE(8),
    systemId: bytes.readBigUInt64LE(24).toString(),
    segmentBytes,
  }
}
