import { isRegainError, RegainError } from '../../../errors.ts'
import type { Point } from '../../../model.ts'
import type { LogListing, LogReader, RestoreMoment } from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { endOf, findEvent, type LogEnd, named, preciseMs, readLogEnd } from '../log/locate.ts'
import { type BranchRange, unneededLog } from '../log/log-retention.ts'
import { parseHistory, type TimelineHistory } from '../log/timeline.ts'
import { branchName, historyName, segmentName, segmentNumber } from '../log/wal.ts'
import type { WalEvent } from '../log/wal-records.ts'
import { formatLsn, parseLsn } from '../protocol/lsn.ts'
import { noteOtherTimelines } from './other-timelines.ts'
import {
  byPreference,
  explainEnd,
  notInLog,
  planLatest,
  planPoint,
  planPosition,
  planTime,
  type RecoveryPlan,
  type RecoveryTarget,
  type TimedWindow,
} from './plan.ts'
import { SoundLog } from './sound-log.ts'
import { findWindows, historiesIn, type PointSpan, type UnusablePoint } from './window.ts'

/** Moments a cluster can be brought back to without a break, for `regain points`. */
export interface PostgresRecoveryWindow {
  branch: string
  point: string
  from: { position: string; time: string }
  to: { position: string; time: string | null }
  endsBecause: string | null
}

/** What `points` and the log can bring back, oldest first. Reads names, and the beginning of the last piece of each window. */
export async function recoveryWindows(points: readonly Point[], store: LogReader): Promise<PostgresRecoveryWindow[]> {
  const { windows } = await timedWindows(points, store)
  return windows.map((window) => ({
    branch: `timeline ${window.timeline}`,
    point: window.points[0]?.id ?? '',
    from: { position: formatLsn(window.from), time: window.points[0]?.stopTime ?? '' },
    to: { position: formatLsn(window.to), time: window.until },
    endsBecause: window.break ? explainEnd(window) : null,
  }))
}

/** A point that can't be restored, because log of its own backup is not there: the first segment that is missing. */
export interface PostgresPointGap {
  point: string
  branch: string
  segment: string
  detail: string
}

/** Points whose own log, from their start to where they are consistent, is not all there. Reads names and histories. */
export async function pointGaps(points: readonly Point[], store: LogReader): Promise<PostgresPointGap[]> {
  const listing = await store.list()
  const { unusable } = findWindows(points.map(spanOf), listing, await readHistories(store, listing))
  return unusable.map(({ point, timeline, missing }) => {
    const { startLsn, stopLsn, segmentBytes } = point
    return {
      point: point.id,
      branch: branchName(timeline),
      segment: segmentName(timeline, segmentNumber(missing, segmentBytes), segmentBytes),
      detail: `A recovery point needs the log from ${formatLsn(startLsn)} to ${formatLsn(stopLsn)} to become consistent, and from ${formatLsn(missing)} on it is missing.`,
    }
  })
}

/** Which log none of these points needs; see log-retention.ts. Reads names and histories. */
export async function unneededLogOf(
  points: readonly { point: Point; onward: boolean }[],
  store: LogReader,
): Promise<BranchRange[]> {
  const listing = await store.list()
  const needs = points.map(({ point, onward }) => ({ ...spanOf(point), onward }))
  return unneededLog(needs, listing, await readHistories(store, listing))
}

/**
 * Which of `points` a recovery to `at` begins with, which timeline it follows, and where it is told to stop. Of several
 * ways the newest timeline is taken, unless `at` names one, and what else the moment could mean is noted. On it the newest point before the moment. Rejects with `moment-unreachable`,
 * naming the furthest moment that can be reached and why it ends there. Reads as much of the log as it must: for a
 * transaction or a name all of it, backwards, until it is found. A segment that shows to be damaged then counts as lost, which is noted.
 */
export async function planRecovery(
  points: readonly Point[],
  store: LogReader,
  at: RestoreMoment,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const sound = new SoundLog(store)
  for (;;) {
    const known = sound.damaged.size
    try {
      const plan = await planIn(points, sound, at, signal)
      return { ...plan, notes: [...plan.notes, ...[...sound.damaged].map(noteDamaged)] }
    } catch (error) {
      // Ends with the segments: each turn knows of one more.
      if (sound.damaged.size > known) continue
      if (known === 0 || !isRegainError(error, 'moment-unreachable')) throw error
      const message = [error.message, ...[...sound.damaged].map(noteDamaged)].join(' ')
      throw new RegainError(error.code, message, { cause: error, ...(error.hint ? { hint: error.hint } : {}) })
    }
  }
}

function noteDamaged(segment: string): string {
  return `The segment ${segment} of the log is damaged: a recovery that begins before it goes no further than that.`
}

async function planIn(
  points: readonly Point[],
  store: LogReader,
  at: RestoreMoment,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const { windows, unusable } = await chooseWindows(points, store, at)
  const plan = await planOn(windows, unusable, at, store, signal)
  if (at.timeline !== undefined || at.kind === 'latest' || at.kind === 'point') return plan
  return { ...plan, notes: [...plan.notes, ...(await noteOtherTimelines(plan, windows, at, store, signal))] }
}

/** The ways that may be gone: all, or those of the timeline asked for. */
async function chooseWindows(
  points: readonly Point[],
  store: LogReader,
  { timeline }: RestoreMoment,
): Promise<{ windows: TimedWindow[]; unusable: UnusablePoint[] }> {
  if (timeline === undefined) return timedWindows(points, store)
  const found = await timedWindows(points, store, true)
  const windows =
    timeline === 'current'
      ? found.windows.flatMap(onlyOwnPoints)
      : found.windows.filter((window) => window.timeline === timeline)
  if (windows.length > 0 || found.windows.length === 0) return { ...found, windows }
  const known = [...new Set(found.windows.map((window) => window.timeline))]
  throw new RegainError(
    'moment-unreachable',
    `No point can be brought forward on timeline ${timeline}. Nothing was restored.`,
    { hint: `Timelines that can be reached: ${known.join(', ')}.` },
  )
}

function onlyOwnPoints(window: TimedWindow): TimedWindow[] {
  const points = window.points.filter((point) => point.timeline === window.timeline)
  const [first] = points
  return first === undefined ? [] : [{ ...window, points, from: first.stopLsn }]
}

async function planOn(
  windows: TimedWindow[],
  unusable: UnusablePoint[],
  at: RestoreMoment,
  store: LogReader,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const exclusive = at.exclusive ? { exclusive: true as const } : {}
  switch (at.kind) {
    case 'latest':
      return planLatest(windows, unusable)
    case 'point':
      return planPoint(windows, unusable, at.id)
    case 'time':
      return exclude(await planToTime(windows, unusable, at, store, signal), exclusive)
    case 'lsn':
      return exclude(await planToLsn(windows, unusable, at.lsn, store, signal), exclusive)
    case 'xid': {
      // A person may know the 64-bit form (pg_current_xact_id); the log holds the lower half.
      const xid = Number(BigInt(at.xid) & 0xffffffffn)
      const is = endOf(xid)
      // A subtransaction ends with the one that it is part of, and recovery knows only that.
      const target = (event: WalEvent): RecoveryTarget => ({
        kind: 'xid',
        value: String(event.kind === 'transaction' ? event.xid : xid),
        ...exclusive,
      })
      return planToEvent(windows, unusable, is, target, `The end of transaction ${at.xid}`, store, signal)
    }
    case 'name': {
      const is = named(at.name)
      const target = (): RecoveryTarget => ({ kind: 'name', value: at.name })
      return planToEvent(windows, unusable, is, target, `The restore point "${at.name}"`, store, signal)
    }
  }
}

function exclude(plan: RecoveryPlan, exclusive: { exclusive?: true }): RecoveryPlan {
  return 'value' in plan.target ? { ...plan, target: { ...plan.target, ...exclusive } } : plan
}

/**
 * PostgreSQL stops at a time when it meets a later transaction, and takes the log's end before that for a failure. So
 * where the log is known to be complete up to the time, and holds nothing later, the target is its end.
 */
async function planToTime(
  windows: TimedWindow[],
  unusable: UnusablePoint[],
  { time, exclusive }: { time: string; exclusive?: true },
  store: LogReader,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const ends = new Map<TimedWindow, LogEnd>()
  const extended: TimedWindow[] = []
  for (const window of windows) {
    const end = await readLogEnd(window, store, signal)
    // A transaction's own time may be later than what the piece claims, which is only ever too early.
    const until =
      end.lastTransactionMs !== null && end.lastTransactionMs > Date.parse(window.until)
        ? new Date(Math.floor(end.lastTransactionMs)).toISOString()
        : window.until
    const known = { ...window, until }
    extended.push(known)
    ends.set(known, end)
  }
  const plan = planTime(extended, unusable, time)
  const window = extended.find((candidate) => candidate.timeline === plan.timeline && candidate.to === plan.end)
  const lastMs = window ? (ends.get(window)?.lastTransactionMs ?? null) : null
  const isLater = lastMs !== null && (exclusive ? lastMs >= preciseMs(time) : lastMs > preciseMs(time))
  return isLater ? plan : { ...plan, target: { kind: 'end' } }
}

/** The same for positions: PostgreSQL stops at the first record at or behind the position, and there may be none. */
async function planToLsn(
  windows: TimedWindow[],
  unusable: UnusablePoint[],
  text: string,
  store: LogReader,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  const lsn = parseLsn(text)
  const plan = planPosition(
    windows,
    unusable,
    lsn,
    { kind: 'lsn', value: formatLsn(lsn) },
    `Position ${formatLsn(lsn)}`,
  )
  const window = windows.find((candidate) => candidate.timeline === plan.timeline && candidate.to === plan.end)
  const lastRecord = window ? (await readLogEnd(window, store, signal)).lastRecord : null
  return lastRecord === null || lastRecord < lsn ? { ...plan, target: { kind: 'end' } } : plan
}

async function planToEvent(
  windows: TimedWindow[],
  unusable: UnusablePoint[],
  is: (event: WalEvent) => boolean,
  target: (event: WalEvent) => RecoveryTarget,
  what: string,
  store: LogReader,
  signal: AbortSignal,
): Promise<RecoveryPlan> {
  for (const window of byPreference(windows)) {
    const event = await findEvent(window, store, is, signal)
    if (event !== null && event.lsn >= window.from)
      return planPosition([window], unusable, event.lsn, target(event), what)
  }
  throw notInLog(windows, unusable, what)
}

/** Bytes of log that a recovery replays: exact for a position, the most it can be where only the way there tells. */
export function logBytesOf(plan: RecoveryPlan, points: readonly Point[]): number {
  const point = points.find(({ id }) => id === plan.point)
  if (point === undefined) return 0
  const { startLsn, stopLsn } = positionsOf(point)
  const { target } = plan
  const end = target.kind === 'immediate' ? stopLsn : target.kind === 'lsn' ? parseLsn(target.value) : plan.end
  return Number(end - startLsn)
}

/** Windows of the points, each with the moment up to which its log is complete. */
export async function timedWindows(
  points: readonly Pick<Point, 'id' | 'positions'>[],
  store: LogReader,
  all = false,
): Promise<{ windows: TimedWindow[]; unusable: UnusablePoint[] }> {
  const listing = await store.list()
  const found = findWindows(points.map(spanOf), listing, await readHistories(store, listing), all)
  const untils = await store.readUntil(found.windows.map(({ last }) => last))
  const windows = found.windows.map((window, i) => {
    const until = untils[i] ?? null
    // The later of what the last piece of log says and the newest point: a point proves its own moment.
    const times = [...window.points.map(({ stopTime }) => stopTime), ...(until === null ? [] : [until])]
    return { ...window, until: times.reduce((latest, time) => (Date.parse(time) > Date.parse(latest) ? time : latest)) }
  })
  return { windows, unusable: found.unusable }
}

async function readHistories(store: LogReader, listing: LogListing): Promise<Map<number, TimelineHistory>> {
  const histories = new Map<number, TimelineHistory>()
  for (const timeline of historiesIn(listing)) {
    const bytes = await store.readHistory(historyName(timeline))
    if (bytes) histories.set(timeline, parseHistory(timeline, bytes.toString('utf8')))
  }
  return histories
}

function spanOf(point: Pick<Point, 'id' | 'positions'>): PointSpan {
  const { timeline, startLsn, stopLsn, stopTime, segmentBytes } = positionsOf(point)
  return { id: point.id, timeline, startLsn, stopLsn, stopTime, segmentBytes }
}
