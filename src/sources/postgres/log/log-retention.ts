import type { LogListing } from '../../contract.ts'
import type { Lsn } from '../protocol/lsn.ts'
import { leftAt, passesThrough, rootHistory, type TimelineHistory } from './timeline.ts'
import { branchName, parseSegmentName, segmentName, segmentNumber } from './wal.ts'

/** Of a kept point, what its need of log depends on. */
export interface PointNeed {
  timeline: number
  startLsn: Lsn
  stopLsn: Lsn
  segmentBytes: number
  /** True: any later moment is to be reached from it. False: only its own consistent state. */
  onward: boolean
}

/** Segments and tails of a branch with from <= name < to, in the order of text. */
export interface BranchRange {
  branch: string
  from: string
  to: string
  /** How many whole segments that is. */
  segments: number
}

/**
 * Which log no kept point needs. Pure. A segment stays if
 *
 * - it holds log of the backup of a kept point, on whatever timeline: a recovery across a fork reads the file of the later
 *   one, which holds the earlier bytes too;
 * - it lies behind the start of a point that is kept with all later moments, on its timeline or on one that came from it;
 * - nothing is known of where its timeline came from, or its timeline is newer than that of every point: whoever writes it
 *   may just be doing so.
 *
 * History files are small and stay. Nothing goes while there is no point, or where the points tell of different segment
 * sizes, so that a name says no certain position.
 */
export function unneededLog(
  points: readonly PointNeed[],
  listing: LogListing,
  histories: ReadonlyMap<number, TimelineHistory>,
): BranchRange[] {
  const segmentBytes = points[0]?.segmentBytes
  if (segmentBytes === undefined || points.some((point) => point.segmentBytes !== segmentBytes)) return []
  const newest = points.reduce((latest, { timeline }) => Math.max(latest, timeline), 0)
  const whole = numbersByTimeline(listing.segments, segmentBytes)
  const pieces = numbersByTimeline([...listing.segments, ...listing.tails], segmentBytes)

  return [...pieces].flatMap(([timeline, numbers]) => {
    const history = histories.get(timeline) ?? (timeline === 1 ? rootHistory(1) : null)
    if (history === null || timeline > newest) return []
    const need = needOf(points, history, histories, segmentBytes)
    const there = whole.get(timeline) ?? new Set()
    return runsOf(numbers, need).map(([first, last]) => ({
      branch: branchName(timeline),
      from: segmentName(timeline, first, segmentBytes),
      to: segmentName(timeline, last + 1n, segmentBytes),
      segments: [...there].filter((number) => first <= number && number <= last).length,
    }))
  })
}

interface Need {
  /** All segments from this one on; null: none. */
  onward: bigint | null
  /** Numbers of first and last segments. */
  spans: { first: bigint; last: bigint }[]
}

function needOf(
  points: readonly PointNeed[],
  history: TimelineHistory,
  histories: ReadonlyMap<number, TimelineHistory>,
  segmentBytes: number,
): Need {
  const need: Need = { onward: null, spans: [] }
  for (const { timeline, startLsn, stopLsn, onward } of points) {
    const first = segmentNumber(startLsn, segmentBytes)
    need.spans.push({ first, last: segmentNumber(stopLsn, segmentBytes) })
    // Every way that leads through the point, and on it what stands before its timeline: a backup may begin before that did.
    const ways = [history, ...histories.values(), rootHistory(timeline)]
    const leadsHere = ways.some((way) => {
      const left = leftAt(way, history.timeline)
      return passesThrough(way, timeline, startLsn) && (left === null || (left !== undefined && startLsn < left))
    })
    if (!onward || !leadsHere) continue
    if (need.onward === null || first < need.onward) need.onward = first
  }
  return need
}

/** Runs of what may go. None holds a number that is needed, whether its segment is there or is missing. */
function runsOf(numbers: ReadonlySet<bigint>, need: Need): [bigint, bigint][] {
  const { onward, spans } = need
  const isNeeded = (number: bigint) =>
    (onward !== null && number >= onward) || spans.some(({ first, last }) => first <= number && number <= last)
  const sorted = [...numbers].filter((number) => !isNeeded(number)).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  const runs: [bigint, bigint][] = []
  for (const number of sorted) {
    const run = runs.at(-1)
    const between = run && spans.some(({ first, last }) => run[1] < last && first < number)
    if (run && !between) run[1] = number
    else runs.push([number, number])
  }
  return runs
}

function numbersByTimeline(pieces: readonly { name: string }[], segmentBytes: number): Map<number, Set<bigint>> {
  const timelines = new Map<number, Set<bigint>>()
  for (const { name } of pieces) {
    const id = parseSegmentName(name, segmentBytes)
    if (id === null) continue
    const numbers = timelines.get(id.timeline) ?? new Set()
    timelines.set(id.timeline, numbers.add(id.number))
  }
  return timelines
}
