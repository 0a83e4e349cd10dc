import { Cron } from 'croner'

/**
 * Which backups are owed now, which come later, and why: a pure function of the rules, what is known of past runs, and
 * the moment. Nothing is remembered between calls, so a restarted scheduler decides exactly as one that never stopped.
 *
 * The promises, each with a table in schedule.test.ts:
 * - A source without any point is unprotected, so its first backup is due at once.
 * - However many runs a downtime swallowed, one run makes up for all of them.
 * - Two runs of one source never overlap, whatever their destinations, and a full backup stands in for an incremental that is due with it.
 * - A failed run is tried again after 1, 4, 16, then every 60 minutes, until the next scheduled moment begins anew.
 * - Times are wall-clock times of the rule's zone. A time inside the hour that spring skips runs right after it; a time
 *   that autumn repeats runs once; rules with a step or wildcard in their hours or minutes simply go on by the clock.
 */
export interface ScheduleRule {
  service: string
  source: string
  /** Each destination has points of its own, and is owed them on its own. */
  destination: string
  kind: ScheduledKind
  /** Five fields: minute, hour, day of month, month, day of week. Checked with `cronProblem` when it is configured. */
  cron: string
  /** IANA name, such as 'Europe/Berlin'. */
  timeZone: string
  /** Runs begin inside it only, and end with it; a run that was cut off goes on when it opens again. Null: any time. */
  window: Window | null
  /** Runs start up to this much later, always by the same amount for the same rule, so that many rules spread out. */
  jitterMs: number
}

export type ScheduledKind = 'full' | 'incremental'

/** Times of day in the rule's zone, in minutes since midnight; an end before the start is the next day's. Never equal. */
export interface Window {
  startMinute: number
  endMinute: number
}

/** A backup of a source to a destination, whoever started it. Times are milliseconds since the epoch. */
export interface RunFact {
  service: string
  source: string
  destination: string
  kind: ScheduledKind
  startedAt: number
  /** Null while it runs. */
  endedAt: number | null
  outcome: 'running' | 'complete' | 'partial' | 'failed' | 'interrupted'
}

/** What is decided for one rule. */
export interface Decision {
  rule: ScheduleRule
  /** `held`: owed, but a run of this source is under way, or the window is closed. `covered`: another rule's due run does its work too. */
  state: 'due' | 'held' | 'covered' | 'later' | 'never'
  /** When it is or was to run: past or present for `due`, `held` and `covered`, future for `later`, null for `never`. */
  at: number | null
  /** For people: one clause without a full stop. */
  reason: string
  /** When the window closes, in which a `due` run must end, or opens, for which a `held` one waits. Null: no window. */
  windowChangesAt: number | null
}

export interface SchedulePlan {
  /** In the order of the rules. */
  decisions: Decision[]
  /** When to decide again if nothing else happens; null when no rule will ever run again. Always later than now. */
  wakeAt: number | null
}

const RETRY_DELAYS_MINUTES = [1, 4, 16, 60]
/** A run that claims to have begun this much later than now was dated by a wrong clock, and proves nothing. */
const CLOCK_TOLERANCE_MS = 5 * 60_000
/** Missed runs are counted up to here, for the message; a rule for every minute would have half a million in a year. */
const MISSED_COUNT_LIMIT = 100

export function planSchedule(rules: readonly ScheduleRule[], runs: readonly RunFact[], now: number): SchedulePlan {
  const bySource = Map.groupBy(runs, (run) => sourceOf(run))
  const decisions = rules.map((rule) => waitForWindow(decide(rule, bySource.get(sourceOf(rule)) ?? [], now), now))
  for (const decision of decisions) giveWayToFull(decision, decisions)

  const moments = decisions.filter((decision) => decision.state === 'later').map((decision) => decision.at ?? Infinity)
  // Rules that are due, held or covered now have a next moment too, which must not be slept through.
  for (const { rule, state } of decisions) if (state !== 'later') moments.push(nextMoment(rule, now) ?? Infinity)
  for (const { windowChangesAt } of decisions) moments.push(windowChangesAt ?? Infinity)
  const earliest = Math.min(...moments, Infinity)
  return { decisions, wakeAt: earliest === Infinity ? null : earliest }
}

/** What is wrong with a time zone, in words for a person; null if nothing. */
export function timeZoneProblem(timeZone: string): string | null {
  // Asked of every configuration at every start: loading the table of zones takes longer than all the rest of it.
  if (timeZone === 'UTC') return null
  try {
    new Intl.DateTimeFormat('en', { timeZone })
    return null
  } catch {
    return `unknown time zone '${timeZone}'; give an IANA name such as Europe/Berlin or UTC`
  }
}

/** What is wrong with a cron expression or time zone, in words for a person; null if nothing. */
export function cronProblem(cron: string, timeZone: string): string | null {
  const unknown = timeZoneProblem(timeZone)
  if (unknown !== null) return unknown
  if (cron.trim().split(/\s+/).length !== 5) {
    return 'give five fields: minute, hour, day of month, month, day of week'
  }
  try {
    const pattern = parse(cron, timeZone)
    // Feasibility must not depend on today, so the question is asked from a fixed moment; 29 February comes within 8 years.
    return pattern.nextRun(new Date('2000-01-01T00:00:00Z')) === null ? 'this never happens' : null
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^CronPattern: /, '') : String(error)
  }
}

/** How much later than its cron moment a rule runs: between 0 and jitterMs, fixed by its names. */
export function jitterOf(rule: ScheduleRule): number {
  if (rule.jitterMs <= 0) return 0
  return fnv1a(`${rule.service}\n${rule.source}\n${rule.kind}`) % (rule.jitterMs + 1)
}

type Bare = Omit<Decision, 'windowChangesAt'>

function waitForWindow(decision: Bare, now: number): Decision {
  const { window, timeZone } = decision.rule
  if (window === null || decision.state !== 'due') return { ...decision, windowChangesAt: null }
  const { isOpen, changesAt } = windowAt(window, timeZone, now)
  if (isOpen) return { ...decision, windowChangesAt: changesAt }
  const reason = `${decision.reason}, waiting for the window that opens ${iso(changesAt)}`
  return { ...decision, state: 'held', reason, windowChangesAt: changesAt }
}

/** Whether the window is open, and when that changes. The hour that a clock change skips or repeats moves its ends alike. */
export function windowAt(window: Window, timeZone: string, now: number): { isOpen: boolean; changesAt: number } {
  const daily = (minute: number) => parse(`${minute % 60} ${Math.floor(minute / 60)} * * *`, timeZone)
  const [opening, closing] = [daily(window.startMinute), daily(window.endMinute)]
  // Croner's reference is exclusive, so a millisecond later makes this very moment count as past.
  const last = (cron: Cron) => cron.previousRuns(1, new Date(now + 1))[0]?.getTime() ?? -Infinity
  const isOpen = last(opening) > last(closing)
  const next = (isOpen ? closing : opening).nextRun(new Date(now))
  // A daily pattern always has a next run.
  return { isOpen, changesAt: next?.getTime() ?? now + 60_000 }
}

function decide(rule: ScheduleRule, runsOfSource: readonly RunFact[], now: number): Bare {
  const believable = runsOfSource.filter((run) => run.startedAt <= now + CLOCK_TOLERANCE_MS)
  const runs = believable.filter((run) => run.destination === rule.destination)
  const owed = owedMoment(rule, runs, now)
  if (owed === null) {
    const next = nextMoment(rule, now)
    if (next === null) return { rule, state: 'never', at: null, reason: 'the schedule has no further moment' }
    return { rule, state: 'later', at: next, reason: `next run ${iso(next)}` }
  }

  if (believable.some((run) => run.outcome === 'running')) {
    return { rule, state: 'held', at: owed.at, reason: `${owed.reason}, waiting: a run of this source is under way` }
  }

  const attempts = runs.filter((run) => isFailure(run) && serves(run, rule) && run.startedAt >= owed.scheduled)
  if (attempts.length === 0) return { rule, state: 'due', at: owed.at, reason: owed.reason }
  const retryAt = retryMoment(attempts)
  const ordinal = `attempt ${attempts.length + 1}`
  if (retryAt <= now) return { rule, state: 'due', at: owed.at, reason: `${owed.reason}, ${ordinal}` }

  // A new scheduled moment that comes before the retry begins anew.
  const at = Math.min(retryAt, nextMoment(rule, now) ?? Infinity)
  return { rule, state: 'later', at, reason: `${ordinal} ${iso(at)}, the last one ${lastOutcome(attempts)}` }
}

interface Owed {
  /** The cron moment itself: a run that began at or after it serves it. */
  scheduled: number
  /** The moment with its jitter. */
  at: number
  reason: string
}

function owedMoment(rule: ScheduleRule, runs: readonly RunFact[], now: number): Owed | null {
  const served = runs.filter((run) => isSuccess(run) && serves(run, rule)).map((run) => run.startedAt)
  if (!runs.some(isSuccess)) return { scheduled: -Infinity, at: now, reason: 'first backup, there is no point yet' }

  const jitter = jitterOf(rule)
  const pattern = parse(rule.cron, rule.timeZone)
  // Croner's reference is exclusive and in whole seconds; cron moments are whole minutes.
  const previous = pattern
    .previousRuns(MISSED_COUNT_LIMIT + 1, new Date(now - jitter + 1))
    .map((date) => date.getTime())
  const scheduled = previous[0]
  if (scheduled === undefined) return null
  const lastServed = Math.max(-Infinity, ...served)
  if (lastServed >= scheduled) return null

  // Without any run of this kind nothing is known of earlier moments, so none of them is called missed.
  const missed = lastServed === -Infinity ? 0 : previous.filter((moment) => moment > lastServed).length - 1
  const count = missed >= MISSED_COUNT_LIMIT ? `${MISSED_COUNT_LIMIT} or more` : String(missed)
  const reason = `scheduled for ${iso(scheduled)}`
  return {
    scheduled,
    at: scheduled + jitter,
    reason: missed === 0 ? reason : `${reason}, which also makes up for ${count} missed before it`,
  }
}

/** A full backup serves an incremental's moment; the other way round it does not. */
function serves(run: RunFact, rule: ScheduleRule): boolean {
  return rule.kind === 'incremental' || run.kind === 'full'
}

function giveWayToFull(decision: Decision, all: readonly Decision[]): void {
  if (decision.state !== 'due' || decision.rule.kind === 'full') return
  const isSame = ({ rule }: Decision) =>
    sourceOf(rule) === sourceOf(decision.rule) && rule.destination === decision.rule.destination
  const full = all.find((other) => other.state === 'due' && other.rule.kind === 'full' && isSame(other))
  if (full === undefined) return
  decision.state = 'covered'
  decision.reason = 'the full backup that is due does this too'
}

function nextMoment(rule: ScheduleRule, now: number): number | null {
  const jitter = jitterOf(rule)
  // Strictly after now with its jitter: the moment before it is either owed or served already.
  const next = parse(rule.cron, rule.timeZone).nextRun(new Date(now - jitter))
  return next === null ? null : next.getTime() + jitter
}

function retryMoment(attempts: readonly RunFact[]): number {
  const delayMinutes = RETRY_DELAYS_MINUTES[Math.min(attempts.length, RETRY_DELAYS_MINUTES.length) - 1] ?? 60
  const lastEnd = Math.max(...attempts.map((run) => run.endedAt ?? run.startedAt))
  return lastEnd + delayMinutes * 60_000
}

function lastOutcome(attempts: readonly RunFact[]): string {
  const last = attempts.reduce((a, b) => (b.startedAt > a.startedAt ? b : a))
  return last.outcome === 'interrupted' ? 'was interrupted' : 'failed'
}

function isSuccess(run: RunFact): boolean {
  return run.outcome === 'complete' || run.outcome === 'partial'
}

function isFailure(run: RunFact): boolean {
  return run.outcome === 'failed' || run.outcome === 'interrupted'
}

function sourceOf(named: { service: string; source: string }): string {
  return `${named.service}/${named.source}`
}

function parse(cron: string, timeZone: string): Cron {
  // `no-wildcard`: "30 2,14 * * *" is a list of fixed times and must not lose its 02:30 on the day spring skips it.
  return new Cron(cron, { timezone: timeZone, mode: '5-part', fixedTimeRule: 'no-wildcard', paused: true })
}

/** FNV-1a, 32 bits: spreads short names evenly; nothing secret depends on it. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(/\.000Z$/, 'Z')
}
