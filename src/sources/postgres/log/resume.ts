import type { LogListing } from '../../contract.ts'
import type { Lsn } from '../protocol/lsn.ts'
import { leftAt, type TimelineHistory, timelineAt } from './timeline.ts'
import { parseSegmentName, segmentName, segmentNumber, segmentStart } from './wal.ts'

/** Where to go on with a log: the beginning of a segment, and the timeline to ask for. */
export interface ResumePosition {
  timeline: number
  start: Lsn
}

/**
 * The first segment that the store does not hold whole, from where the slot keeps the log: what lies before was stored,
 * by the follower or with a point, and what lies behind may be there in parts.
 */
export function resumePosition(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
  kept: ResumePosition,
): ResumePosition {
  const last = lastHeld(listing, history, segmentBytes, kept)
  return last === null ? kept : positionAt(last.start + BigInt(segmentBytes), history, segmentBytes)
}

/**
 * The last segment that the store holds whole, if the slot keeps it too; else where to go on. To ask for that one again proves
 * that the server's log is still the one that is stored: of a server that was set back to a copy of its former self, and has
 * grown beyond its old end since, nothing else tells.
 */
export function provingPosition(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
  kept: ResumePosition,
): ResumePosition {
  return lastHeld(listing, history, segmentBytes, kept) ?? kept
}

/** The last of the segments from `kept` on that follow each other in the store; null if it lacks the first. */
function lastHeld(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
  kept: ResumePosition,
): ResumePosition | null {
  const there = new Set(listing.segments.map(({ name }) => name))
  let last: ResumePosition | null = null
  for (let next = kept; ; next = positionAt(next.start + BigInt(segmentBytes), history, segmentBytes)) {
    if (!there.has(segmentName(next.timeline, segmentNumber(next.start, segmentBytes), segmentBytes))) return last
    last = next
  }
}

/**
 * Where the store's log ends, if that is before what the slot keeps: the server may still have what lies between. Null
 * if it is not, or the store has nothing on the way to the server's timeline.
 */
export function endBefore(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
  kept: ResumePosition,
): ResumePosition | null {
  let newest: Lsn | null = null
  for (const { timeline, start, end, whole } of piecesOf(listing, segmentBytes)) {
    const left = leftAt(history, timeline)
    if (left === undefined) continue
    // An unfinished segment comes again whole; one with a fork inside comes again with the child.
    const isDone = whole && (left === null || end <= left)
    const next = isDone ? BigInt(segmentBytes) + start : start
    // What a timeline has behind the fork is not on the way.
    if (left !== null && next > left) continue
    if (newest === null || next > newest) newest = next
  }
  return newest === null || newest >= kept.start ? null : positionAt(newest, history, segmentBytes)
}

/** What the store has of an ancestor behind the position at which `history` left it. */
export function leftBehind(
  listing: LogListing,
  history: TimelineHistory,
  segmentBytes: number,
): { timeline: number; from: Lsn; to: Lsn }[] {
  const ends = new Map<number, Lsn>()
  for (const { timeline, end } of piecesOf(listing, segmentBytes))
    if (end > (ends.get(timeline) ?? 0n)) ends.set(timeline, end)
  return history.ancestors.flatMap(({ timeline, end: from }) => {
    const to = ends.get(timeline) ?? 0n
    return to > from ? [{ timeline, from, to }] : []
  })
}

function* piecesOf(
  { segments, tails }: LogListing,
  segmentBytes: number,
): Generator<{ timeline: number; start: Lsn; end: Lsn; whole: boolean }> {
  const pieces = [...segments.map(({ name }) => ({ name, available: null })), ...tails]
  for (const { name, available } of pieces) {
    const segment = parseSegmentName(name, segmentBytes)
    if (!segment) continue
    const start = segment.number * BigInt(segmentBytes)
    const end = start + BigInt(available ?? segmentBytes)
    yield { timeline: segment.timeline, start, end, whole: available === null }
  }
}

/** The beginning of the segment that holds `lsn`, on the timeline which serves it. */
export function positionAt(lsn: Lsn, history: TimelineHistory, segmentBytes: number): ResumePosition {
  const start = segmentStart(lsn, segmentBytes)
  // A segment with a fork inside is asked from the timeline after it: its file holds the old bytes too.
  return { timeline: timelineAt(history, start + BigInt(segmentBytes) - 1n), start }
}
