import { RegainError } from '../../../errors.ts'
import { earlierLsn, formatLsn, type Lsn } from '../protocol/lsn.ts'
import type { PointSpan, UnusablePoint, Window } from './window.ts'

/** A window with the moment up to which its log is complete, RFC 3339 UTC. */
export interface TimedWindow extends Window {
  until: string
}

/** Where PostgreSQL is told to stop. `end`: nowhere, it replays all there is. `immediate`: as soon as it is consistent. */
export type RecoveryTarget =
  | { kind: 'end' | 'immediate' }
  /** `exclusive`: right before it. */
  | { kind: 'time' | 'lsn' | 'xid' | 'name'; value: string; exclusive?: true }

/** How a recovery will go. */
export interface RecoveryPlan {
  /** Id of the point it begins with. */
  point: string
  /** Timeline it follows. */
  timeline: number
  target: RecoveryTarget
  /** End of the log that it can use, and the moment of that. */
  end: Lsn
  until: string
  /** What the person should know before it starts. */
  notes: string[]
}

/** Newest timeline first, then the furthest log. */
export function byPreference(windows: readonly TimedWindow[]): TimedWindow[] {
  return [...windows].sort((a, b) => b.timeline - a.timeline || (a.to < b.to ? 1 : -1))
}

export function planLatest(windows: readonly TimedWindow[], unusable: readonly UnusablePoint[]): RecoveryPlan {
  const [window] = byPreference(windows)
  if (!window) throw nothingUsable(unusable)
  const notes = window.break
    ? [`Later log, from ${formatLsn(window.break.to)} on, cannot be reached: ${explainEnd(window)}.`]
    : []
  return planOf(window, newestOf(window.points), { kind: 'end' }, notes)
}

export function planPoint(
  windows: readonly TimedWindow[],
  unusable: readonly UnusablePoint[],
  id: string,
): RecoveryPlan {
  for (const window of byPreference(windows)) {
    const point = window.points.find((candidate) => candidate.id === id)
    // Its own timeline is enough, and the one its files are on.
    if (point) return { ...planOf(window, point, { kind: 'immediate' }), timeline: point.timeline }
  }
  throw nothingUsable(unusable.filter(({ point }) => point.id === id))
}

/** The way to a time, or `moment-unreachable`. */
export function planTime(
  windows: readonly TimedWindow[],
  unusable: readonly UnusablePoint[],
  time: string,
): RecoveryPlan {
  if (windows.length === 0) throw nothingUsable(unusable)
  const wantedMs = Date.parse(time)
  const begun = byPreference(windows).filter((window) => pointsBy(window, wantedMs).length > 0)
  for (const window of begun) {
    if (wantedMs <= Date.parse(window.until))
      return planOf(window, newestOf(pointsBy(window, wantedMs)), { kind: 'time', value: time })
  }
  const furthest = begun.sort((a, b) => Date.parse(b.until) - Date.parse(a.until))[0]
  if (furthest)
    throw unreachable(
      time,
      `The furthest moment that can be reached is ${furthest.until} (${formatLsn(furthest.to)}): ${explainEnd(furthest)}.`,
    )
  const times = windows.flatMap((window) => window.points.map((point) => point.stopTime))
  throw unreachable(
    time,
    `The earliest moment that can be reached is ${times.reduce((a, b) => (Date.parse(b) < Date.parse(a) ? b : a))}.`,
  )
}

/** The way to a position, or `moment-unreachable`. `what` is the moment in the person's words. */
export function planPosition(
  windows: readonly TimedWindow[],
  unusable: readonly UnusablePoint[],
  lsn: Lsn,
  target: RecoveryTarget,
  what: string,
): RecoveryPlan {
  if (windows.length === 0) throw nothingUsable(unusable)
  const ordered = byPreference(windows)
  for (const window of ordered) {
    const points = window.points.filter((point) => point.stopLsn <= lsn)
    if (points.length > 0 && lsn <= window.to) return planOf(window, newestOf(points), target)
  }
  const before = ordered.filter((window) => window.from <= lsn).sort((a, b) => (a.to < b.to ? 1 : -1))[0]
  if (before)
    throw unreachable(
      what,
      `The furthest position that can be reached is ${formatLsn(before.to)} (${before.until}): ${explainEnd(before)}.`,
    )
  throw unreachable(
    what,
    `The earliest position that can be reached is ${formatLsn(ordered.map(({ from }) => from).reduce(earlierLsn))}.`,
  )
}

/** For moments that only the log itself can place, and which it does not hold. */
export function notInLog(
  windows: readonly TimedWindow[],
  unusable: readonly UnusablePoint[],
  what: string,
): RegainError {
  const [window] = byPreference(windows)
  if (!window) return nothingUsable(unusable)
  return unreachable(
    what,
    `It is not in the log that any point connects to. The furthest moment that can be reached is ${window.until} (${formatLsn(window.to)}): ${explainEnd(window)}.`,
  )
}

/** Why a window ends where it does, for people. */
export function explainEnd(window: Window): string {
  const gap = window.break
  if (!gap) return 'the log in the repository ends there'
  if (gap.reason === 'conflict')
    return `the log from ${formatLsn(gap.from)} was refused because the repository holds other bytes for it`
  return `the log from ${formatLsn(gap.from)} to ${formatLsn(gap.to)} is missing`
}

function planOf(window: TimedWindow, point: PointSpan, target: RecoveryTarget, notes: string[] = []): RecoveryPlan {
  return { point: point.id, timeline: window.timeline, target, end: window.to, until: window.until, notes }
}

function pointsBy(window: Window, timeMs: number): PointSpan[] {
  return window.points.filter((point) => Date.parse(point.stopTime) <= timeMs)
}

function newestOf(points: readonly PointSpan[]): PointSpan {
  return points.reduce((newest, point) => (point.stopLsn > newest.stopLsn ? point : newest))
}

function unreachable(what: string, furthest: string): RegainError {
  return new RegainError('moment-unreachable', `${what} cannot be reached, and nothing was restored. ${furthest}`)
}

function nothingUsable(unusable: readonly UnusablePoint[]): RegainError {
  const [first] = unusable
  const reason = first
    ? `The point ${first.point.id} needs the log from ${formatLsn(first.point.startLsn)} to ${formatLsn(first.point.stopLsn)}, and from ${formatLsn(first.missing)} on it is missing.`
    : 'There is no recovery point that can be used.'
  return new RegainError('moment-unreachable', `${reason} Nothing was restored.`)
}
