import type { LogListing } from '../contract.ts'
import type { Lsn } from './lsn.ts'
import { leftAt, type TimelineHistory, timelineAt } from './timeline.ts'
import { parseSegmentName, segmentStart } from './wal.ts'

/** Where to go on with a log: the beginning of a segment, and the timeline to ask for. */
export interface ResumePosition {
  timeline: number
  start: Lsn
}

/**
 * Behind the newest whole segment that lies on the way to the server's current timeline. Null if the store has none:
 * then the slot decides. The position may lie in a gap's far side; older gaps stay gaps.
 */
export function resumePosition(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
): ResumePosition | null {
  let newest: Lsn | null = null
  for (const { name } of listing.segments) {
    const segment = parseSegmentName(name, segmentBytes)
    if (!segment) continue
    const left = leftAt(history, segment.timeline)
    if (left === undefined) continue
    const end = (segment.number + 1n) * BigInt(segmentBytes)
    // What a timeline has behind the fork is not on the way; the fork's own segment comes again with the child.
    if (left !== null && end > left) continue
    if (newest === null || end > newest) newest = end
  }
  for (const { name } of listing.tails) {
    const segment = parseSegmentName(name, segmentBytes)
    if (!segment || newest !== null || leftAt(history, segment.timeline) === undefined) continue
    newest = segment.number * BigInt(segmentBytes)
  }
  return newest === null ? null : positionAt(newest, history, segmentBytes)
}

/** The beginning of the segment that holds `lsn`, on the timeline which serves it. */
export function positionAt(lsn: Lsn, history: TimelineHistory, segmentBytes: number): ResumePosition {
  const start = segmentStart(lsn, segmentBytes)
  // A segment with a fork inside is asked from the timeline after it: its file holds the old bytes too.
  return { timeline: timelineAt(history, start + BigInt(segmentBytes) - 1n), start }
}
