import { setImmediate } from 'node:timers/promises'
import { throwIfInterrupted } from '../../../errors.ts'
import type { Entry, Point } from '../../../model.ts'
import type { LogStore, RestoreMoment, SourceOptions } from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { formatLsn, type Lsn } from '../protocol/lsn.ts'
import { byPreference, explainEnd, type TimedWindow } from '../recovery/plan.ts'
import { timedWindows } from '../recovery/recovery-log.ts'
import type { PointSpan } from '../recovery/window.ts'
import { type Loss, LossFinder } from './findings.ts'
import { loadCatalog } from './load-catalog.ts'
import { WalRecords } from './records.ts'
import { readSegments } from './segments.ts'
import { type Span, spanOf } from './span.ts'
import { momentBefore } from './time.ts'
import { matches, type Wanted } from './wanted.ts'

/** Of a point that is open. */
export interface SearchedPoint {
  entry(path: string): Promise<Entry | null>
  stream(entry: Entry): AsyncIterableIterator<Buffer>
}

export interface LogSearch extends Wanted {
  points: readonly Point[]
  store: LogStore
  /** Opens a point for as long as `use` runs. */
  withPoint<T>(id: string, use: (point: SearchedPoint) => Promise<T>): Promise<T>
  /** A time or a position. Null: as far as points and log reach. */
  from: RestoreMoment | null
  to: RestoreMoment | null
  /** Called in the order of the log. False ends the search. */
  found(loss: FoundLoss): boolean
}

/** A loss, and how to get what was lost. */
export interface FoundLoss extends Omit<Loss, 'lsn' | 'before' | 'timeMs'> {
  /** Where its commit begins. */
  lsn: string
  timeline: number
  /** WHEN of a restore that ends with the last record before it: exact. Null: no restore can reach that. */
  at: string | null
  /** The last moment before it by the server's clock. */
  atTime: string
}

export interface SearchSummary {
  /** The stretches that were searched, oldest first, each with the point that its names come from. */
  searched: { timeline: number; point: string; from: string; fromTime: string; to: string; toTime: string }[]
  /** What could not be looked at, for people. */
  notes: string[]
  /** Transactions that deleted or updated fewer rows than asked for, of tables that were. */
  smaller: number
  /** Whether a table or database of the name that was asked for ever was there. */
  isKnown: boolean
}

/** Commits stand in the log nearly in the order of their times: this far behind the end no earlier one is expected. */
const DISORDER_MS = 60_000
/** Records between two looks at whether to go on: some ten milliseconds. */
const RECORDS_AT_ONCE = 20_000

/**
 * Finds what committed transactions dropped, truncated or deleted, in the order of the log. Reads the log once, from the
 * newest point before `from` on, whose files say which tables there were; memory holds the catalogs that name them, and
 * a few segments. What could not be searched is in the summary's notes.
 */
export async function searchLog(search: LogSearch, options: SourceOptions): Promise<SearchSummary> {
  const span = spanOf(search.from, search.to)
  const { windows, unusable } = await timedWindows(search.points, search.store)
  const all = byPreference(windows)
  const summary: SearchSummary = { searched: [], notes: [], smaller: 0, isKnown: false }
  for (const { point, missing } of unusable)
    summary.notes.push(
      `The point ${point.id.slice(0, 8)} of ${point.stopTime} was not used: the log it needs is missing from ${formatLsn(missing)} on.`,
    )
  const inside = all.filter((window) => overlaps(window, span)).reverse()
  for (const window of inside) {
    const run = new WindowSearch(search, span, window, all, summary)
    if (!(await run.run(options))) return summary
    if (window.break)
      summary.notes.push(
        `GAP from ${formatLsn(window.to)} (${window.until}) on: ${explainEnd(window)}. What happened between it and the next point cannot be told.`,
      )
  }
  noteBorders(span, inside, summary)
  return summary
}

/** One stretch of log without a break. */
class WindowSearch {
  readonly #search: LogSearch
  readonly #span: Span
  readonly #window: TimedWindow
  /** By preference: what a restore takes first. */
  readonly #all: readonly TimedWindow[]
  readonly #newer: readonly TimedWindow[]
  readonly #summary: SearchSummary
  #isWanted = true

  constructor(search: LogSearch, span: Span, window: TimedWindow, all: readonly TimedWindow[], summary: SearchSummary) {
    this.#search = search
    this.#span = span
    this.#window = window
    this.#all = all
    this.#newer = all.slice(0, all.indexOf(window))
    this.#summary = summary
  }

  /** False: nobody wants to hear more. */
  async run(options: SourceOptions): Promise<boolean> {
    const { notes, searched } = this.#summary
    const begin = beginOf(this.#window, this.#span)
    const point = this.#search.points.find(({ id }) => id === begin.id)!
    const { major } = positionsOf(point)
    const lost = (what: string, at: Lsn | null): void => {
      const where = at === null ? '' : `, at ${formatLsn(at)}`
      notes.push(
        `NAMES MAY BE MISSED: ${what}${where}. Of tables made there since, and of drops there, this search knows nothing until it begins with a later point (--from).`,
      )
    }
    const catalog = await this.#search.withPoint(point.id, (opened) => {
      const read = async (path: string): Promise<AsyncIterable<Buffer> | null> => {
        const entry = await opened.entry(path)
        return entry?.type === 'file' ? opened.stream(entry) : null
      }
      return loadCatalog({ read }, major, lost, options.signal)
    })
    this.#summary.isKnown ||= catalog.knows(this.#search)
    const finder = new LossFinder(catalog, major, (loss) => this.#tell(loss))
    const end = await this.#readLog(begin, finder, options)
    this.#summary.isKnown ||= catalog.knows(this.#search)
    searched.push({
      timeline: this.#window.timeline,
      point: point.id,
      from: formatLsn(begin.startLsn),
      fromTime: begin.stopTime,
      to: formatLsn(end.lsn),
      toTime: end.isWhole ? this.#window.until : new Date(end.timeMs).toISOString(),
    })
    return this.#isWanted
  }

  async #readLog(
    begin: PointSpan,
    finder: LossFinder,
    options: SourceOptions,
  ): Promise<{ lsn: Lsn; timeMs: number; isWhole: boolean }> {
    const window = this.#window
    const records = new WalRecords()
    const bytesTotal = Number(window.to - begin.startLsn)
    const result = { lsn: begin.startLsn, timeMs: Date.parse(begin.stopTime), isWhole: false }
    let readTo = begin.startLsn
    let count = 0
    for await (const { bytes, start } of readSegments(window, begin.startLsn, this.#search.store, options.signal)) {
      const reading = records.read(bytes, start)
      let step = reading.next()
      for (; !step.done; step = reading.next()) {
        const record = step.value
        if (++count % RECORDS_AT_ONCE === 0) {
          throwIfInterrupted(options.signal)
          await setImmediate()
        }
        if (record.lsn < begin.startLsn) continue
        const end = finder.follow(record)
        result.lsn = record.lsn
        if (end) result.timeMs = Math.max(result.timeMs, end.timeMs)
        const isBehind = record.lsn > this.#span.toLsn || (end !== null && end.timeMs > this.#span.toMs + DISORDER_MS)
        if (isBehind || !this.#isWanted) return result
      }
      readTo = start + BigInt(bytes.length)
      options.progress({ phase: 'search', bytesDone: Math.max(0, Number(readTo - begin.startLsn)), bytesTotal })
      // At the end of the newest log there may be anything behind the last record; before it, nothing may be missing.
      if (!step.value && readTo < window.to) break
    }
    result.isWhole = readTo >= window.to
    if (!result.isWhole)
      this.#summary.notes.push(
        `The log could not be read behind ${formatLsn(result.lsn)}. What happened between it and the next point cannot be told.`,
      )
    return result
  }

  #tell(loss: Loss): void {
    const { fromLsn, toLsn, fromMs, toMs } = this.#span
    if (loss.lsn < fromLsn || loss.lsn > toLsn || loss.timeMs < fromMs || loss.timeMs > toMs) return
    // A stretch that several timelines share is told with the newest one.
    if (this.#newer.some((other) => shares(other, this.#window, loss.lsn))) return
    if (matches(loss, this.#search)) {
      this.#summary.isKnown ||= loss.table === this.#search.table || this.#search.table === null
      this.#isWanted &&= this.#search.found(foundLoss(loss, this.#window, this.#all))
    } else if (matches(loss, { ...this.#search, rows: 1 })) this.#summary.smaller++
  }
}

function overlaps(window: TimedWindow, span: Span): boolean {
  const [first] = window.points
  if (!first || window.to <= span.fromLsn || first.startLsn > span.toLsn) return false
  return Date.parse(window.until) >= span.fromMs - DISORDER_MS && Date.parse(first.stopTime) <= span.toMs + DISORDER_MS
}

/** The newest point before the span; without one, the oldest. */
function beginOf(window: TimedWindow, { fromMs, fromLsn }: Span): PointSpan {
  const points = [...window.points].sort((a, b) => (a.stopLsn < b.stopLsn ? -1 : 1))
  const isBefore = (point: PointSpan): boolean =>
    (fromLsn > 0n && point.stopLsn <= fromLsn) || Date.parse(point.stopTime) <= fromMs - DISORDER_MS
  return points.findLast(isBefore) ?? points[0]!
}

/** Whether both windows go through the same log at `lsn`. */
function shares(other: TimedWindow, window: TimedWindow, lsn: Lsn): boolean {
  const isThere = other.points.some(({ startLsn }) => startLsn <= lsn) && lsn < other.to
  return isThere && other.timelineAt(lsn) === window.timelineAt(lsn)
}

/**
 * A restore to a position takes the first window, by preference, that reaches it: see planPosition. A newer timeline that
 * does not reach as far yet will: then the position would name another moment, so it is not given.
 */
function foundLoss(loss: Loss, window: TimedWindow, all: readonly TimedWindow[]): FoundLoss {
  const { lsn, before, timeMs: _, ...rest } = loss
  const taken = all.find(({ points }) => points.some(({ stopLsn }) => stopLsn <= before))
  const isReachable = taken?.timelineAt(before) === window.timelineAt(before)
  return {
    ...rest,
    lsn: formatLsn(lsn),
    timeline: window.timelineAt(lsn),
    at: isReachable ? `lsn:${formatLsn(before)}` : null,
    atTime: momentBefore(loss.time),
  }
}

function noteBorders(span: Span, inside: readonly TimedWindow[], summary: SearchSummary): void {
  const first = inside.flatMap(({ points }) => points.map(({ stopTime }) => Date.parse(stopTime))).sort(ascending)[0]
  const last = inside
    .map(({ until }) => Date.parse(until))
    .sort(ascending)
    .at(-1)
  if (first === undefined || last === undefined) {
    summary.notes.push('No point and log reach into what was asked for: nothing was searched.')
    return
  }
  if (first > span.fromMs && span.fromMs !== Number.NEGATIVE_INFINITY)
    summary.notes.push(`The first point is of ${iso(first)}: what happened before it was not searched.`)
  if (last < span.toMs && span.toMs !== Number.POSITIVE_INFINITY)
    summary.notes.push(`The log in the repository ends at ${iso(last)}: what happened later is not in it yet.`)
}

function ascending(a: number, b: number): number {
  return a - b
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
