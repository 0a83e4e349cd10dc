import type { LogListing } from '../../contract.ts'
import { leftAt, passesThrough, rootHistory, type TimelineHistory, timelineAt } from '../log/timeline.ts'
import { branchName, parseConflictName, parseHistoryName, parseSegmentName, segmentName } from '../log/wal.ts'
import { earlierLsn, type Lsn } from '../protocol/lsn.ts'

/** Of a point, what windows depend on. */
export interface PointSpan {
  id: string
  timeline: number
  startLsn: Lsn
  stopLsn: Lsn
  /** RFC 3339 UTC, of the server's clock. */
  stopTime: string
  segmentBytes: number
}

/** A stretch of log without a break on the way to `timeline`, and the points that can be brought forward along it. */
export interface Window {
  timeline: number
  /** Oldest first; at least one. */
  points: PointSpan[]
  /** From the first point's consistent state … */
  from: Lsn
  /** … to the end of the log that connects to it. */
  to: Lsn
  /** The piece of log that holds the end: its `until` tells the time. */
  last: { branch: string; name: string }
  break: Break | null
  segmentBytes: number
  history: TimelineHistory
  /** The timeline whose file of segment `number` recovery along this window reads. */
  timelineOf(number: bigint): number
  /** The timeline that the way is on at `lsn`. */
  timelineAt(lsn: Lsn): number
}

/** Why a window ends although there is more log behind it. */
export interface Break {
  from: Lsn
  /** Where the log goes on. */
  to: Lsn
  reason: 'missing' | 'conflict'
}

/** A point whose own WAL is not all there: it cannot be used. */
export interface UnusablePoint {
  point: PointSpan
  timeline: number
  missing: Lsn
}

export interface Windows {
  /** By timeline, then position, ascending. */
  windows: Window[]
  unusable: UnusablePoint[]
}

/**
 * What points and log can bring back. Pure. `histories` holds what the store has of them, by timeline; a timeline
 * without one is taken as having no ancestors. `all`: windows too that go no way of their own.
 */
export function findWindows(
  points: readonly PointSpan[],
  listing: LogListing,
  histories: ReadonlyMap<number, TimelineHistory>,
  all = false,
): Windows {
  const windows: Window[] = []
  const [any] = points
  if (!any) return { windows, unusable: [] }
  const log = indexLog(listing, any.segmentBytes)
  const usable = new Set<string>()
  const unusable = new Map<string, UnusablePoint>()
  for (const timeline of timelinesOf(points, log, histories)) {
    const history = histories.get(timeline) ?? rootHistory(timeline)
    const path = new Path(log, history)
    for (const point of [...points].sort(byStart)) {
      if (!passesThrough(history, point.timeline, point.startLsn)) continue
      const end = path.reach(point.startLsn)
      if (end === null || end.lsn < point.stopLsn) {
        unusable.set(point.id, { point, timeline, missing: end?.lsn ?? point.startLsn })
        continue
      }
      usable.add(point.id)
      const open = windows.at(-1)
      if (open?.timeline === timeline && open.to === end.lsn) open.points.push(point)
      else
        windows.push({
          timeline,
          points: [point],
          from: point.stopLsn,
          to: end.lsn,
          last: end.last,
          break: path.breakAfter(end.lsn),
          segmentBytes: any.segmentBytes,
          history,
          timelineOf: (number) => path.server(number),
          timelineAt: (lsn) => timelineAt(history, lsn),
        })
    }
  }
  return {
    windows: all ? windows : windows.filter((window) => isOfItsOwn(window, windows, histories)),
    unusable: [...unusable.values()].filter(({ point }) => !usable.has(point.id)),
  }
}

function byStart(a: PointSpan, b: PointSpan): number {
  return a.startLsn < b.startLsn ? -1 : a.startLsn > b.startLsn ? 1 : 0
}

/** A window whose whole way another timeline also goes says nothing new. */
function isOfItsOwn(window: Window, all: readonly Window[], histories: ReadonlyMap<number, TimelineHistory>): boolean {
  return !all.some((other) => {
    if (other.timeline === window.timeline) return false
    const history = histories.get(other.timeline) ?? rootHistory(other.timeline)
    const left = leftAt(history, window.timeline)
    const covered = left !== undefined && left !== null && window.to <= left
    return covered && other.from <= window.from && other.to >= window.to
  })
}

interface IndexedLog {
  segmentBytes: bigint
  /** Timeline to numbers of whole segments. */
  whole: Map<number, Set<bigint>>
  /** Timeline to number to bytes available. */
  tails: Map<number, Map<bigint, number>>
  conflicts: Map<number, Set<bigint>>
}

function indexLog(listing: LogListing, segmentBytes: number): IndexedLog {
  const log: IndexedLog = {
    segmentBytes: BigInt(segmentBytes),
    whole: new Map(),
    tails: new Map(),
    conflicts: new Map(),
  }
  for (const { name } of listing.segments) {
    const id = parseSegmentName(name, segmentBytes)
    if (id) entryOf(log.whole, id.timeline, () => new Set<bigint>()).add(id.number)
  }
  for (const { name, available } of listing.tails) {
    const id = parseSegmentName(name, segmentBytes)
    if (id && available > 0) entryOf(log.tails, id.timeline, () => new Map<bigint, number>()).set(id.number, available)
  }
  for (const name of listing.histories) {
    const id = parseSegmentName(parseConflictName(name) ?? '', segmentBytes)
    if (id) entryOf(log.conflicts, id.timeline, () => new Set<bigint>()).add(id.number)
  }
  return log
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const there = map.get(key)
  if (there !== undefined) return there
  const made = make()
  map.set(key, made)
  return made
}

function timelinesOf(
  points: readonly PointSpan[],
  log: IndexedLog,
  histories: ReadonlyMap<number, TimelineHistory>,
): number[] {
  const all = new Set([
    ...points.map(({ timeline }) => timeline),
    ...log.whole.keys(),
    ...log.tails.keys(),
    ...histories.keys(),
  ])
  return [...all].sort((a, b) => a - b)
}

interface Reach {
  lsn: Lsn
  last: { branch: string; name: string }
}

/** The segments that recovery to one timeline reads, in runs without a break. */
class Path {
  readonly #log: IndexedLog
  readonly #history: TimelineHistory
  /** Numbers of segments that are there, ascending, and the runs of them. */
  readonly #runs: { first: bigint; last: bigint }[] = []

  constructor(log: IndexedLog, history: TimelineHistory) {
    this.#log = log
    this.#history = history
    const numbers: bigint[] = []
    for (const [timeline, segments] of log.whole) {
      for (const number of segments)
        if (this.server(number) === timeline && !this.#conflicts(number)) numbers.push(number)
    }
    numbers.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    for (const number of numbers) {
      const run = this.#runs.at(-1)
      if (run && run.last + 1n === number) run.last = number
      else this.#runs.push({ first: number, last: number })
    }
  }

  /** How far the log goes from `lsn` without a break; null if not even the segment of `lsn` is there. */
  reach(lsn: Lsn): Reach | null {
    const first = lsn / this.#log.segmentBytes
    const run = this.#runs.find((candidate) => candidate.first <= first && first <= candidate.last)
    const next = run ? run.last + 1n : first
    const tail = this.#tail(next)
    if (tail > 0) {
      const end = next * this.#log.segmentBytes + BigInt(tail)
      if (run || end > lsn) return { lsn: end, last: this.#piece(next) }
    }
    return run ? { lsn: next * this.#log.segmentBytes, last: this.#piece(run.last) } : null
  }

  /** What lies between `end` and the next piece of log on this path; null if there is none. */
  breakAfter(end: Lsn): Break | null {
    const after = this.#runs.find((run) => run.first * this.#log.segmentBytes >= end)
    const tails = [...(this.#log.tails.get(this.#history.timeline)?.keys() ?? [])]
    const starts = [...(after ? [after.first] : []), ...tails]
      .map((number) => number * this.#log.segmentBytes)
      .filter((start) => start >= end)
    const [first, ...others] = starts
    if (first === undefined) return null
    const to = others.reduce(earlierLsn, first)
    return { from: end, to, reason: this.#conflicts(end / this.#log.segmentBytes) ? 'conflict' : 'missing' }
  }

  /** Bytes of a tail, no further than where the way leaves its timeline. */
  #tail(number: bigint): number {
    if (this.#conflicts(number)) return 0
    return this.#log.tails.get(this.server(number))?.get(number) ?? 0
  }

  #conflicts(number: bigint): boolean {
    return this.#log.conflicts.get(this.server(number))?.has(number) ?? false
  }

  /** The timeline whose file of a segment counts: with a fork inside, the later one, which holds the earlier bytes too. */
  server(number: bigint): number {
    return timelineAt(this.#history, (number + 1n) * this.#log.segmentBytes - 1n)
  }

  #piece(number: bigint): { branch: string; name: string } {
    const timeline = this.server(number)
    return { branch: branchName(timeline), name: segmentName(timeline, number, Number(this.#log.segmentBytes)) }
  }
}

/** Timelines whose histories a listing names. */
export function historiesIn(listing: LogListing): number[] {
  return listing.histories.map(parseHistoryName).filter((timeline): timeline is number => timeline !== null)
}
