import { type Calendar, calendarOf, PERIODS, type Period } from './calendar.ts'

/**
 * Which points of one source are kept, and why: a pure function of the points, the rules, and the moment.
 *
 * What it promises beyond the rules themselves, each held by a table or a property in retention.test.ts:
 * - The newest point and the newest complete one are kept, whatever the rules say. A period is stood for by its newest
 *   complete point, so one that misses something never takes the place of one that is whole.
 * - Periods are counted where there are points, and `within` is measured from the newest point: while no backups are
 *   taken, nothing ages away.
 * - No clock can make it remove more. A point dated later than `now` is kept and takes no other's place; one dated before
 *   the point that it followed (the clock of its writer was set back) is kept as long as that one.
 * - Deciding again about what was kept keeps all of it.
 */
export interface RetentionRules {
  /** Every point is kept; all else is without meaning. */
  all?: boolean
  /** The newest N points, and the newest N complete ones. */
  last?: number
  /** Every point this much older than the newest, or less; milliseconds. */
  withinMs?: number
  /** One point each of the newest N days, weeks, months, years that have points. */
  daily?: number
  weekly?: number
  monthly?: number
  yearly?: number
  /** Points with such a label are kept for ever; `*` stands for any text. */
  labels?: readonly string[]
  /** IANA name of the zone whose days, weeks, months and years are meant. */
  timeZone: string
}

/** Of a point, what retention depends on. */
export interface PointFact {
  id: string
  /** Milliseconds since the epoch, by the clock of the host that took it; NaN where that cannot be read. */
  committedAt: number
  complete: boolean
  label?: string
  /** Set while somebody holds the point: why. */
  hold?: string
  /** The newest point that there was when this one was taken. */
  previous?: string
}

export type KeepRule =
  | Period
  | 'all'
  | 'last'
  | 'within'
  | 'label'
  | 'hold'
  | 'newest'
  | 'newest-complete'
  | 'future'
  | 'misdated'

export interface Reason {
  rule: KeepRule | 'removed'
  /** For people: a clause without a full stop. */
  text: string
}

export interface RetentionDecision {
  id: string
  keep: boolean
  /** At least one. */
  reasons: Reason[]
}

/** Two hosts' clocks may differ by this much without anything being wrong. */
const CLOCK_TOLERANCE_MS = 5 * 60_000

/** In the order of `points`, of which none may come twice. */
export function decideRetention(points: readonly PointFact[], rules: RetentionRules, now: number): RetentionDecision[] {
  const reasons = new Map<string, Reason[]>(points.map(({ id }) => [id, []]))
  const keep = (point: PointFact, rule: KeepRule, text: string) => reasons.get(point.id)?.push({ rule, text })

  for (const point of points) {
    if (rules.all === true) keep(point, 'all', 'every point is kept')
    if (point.hold !== undefined) keep(point, 'hold', point.hold === '' ? 'held' : `held: ${point.hold}`)
    const pattern = rules.labels?.find((label) => matches(label, point.label))
    if (pattern !== undefined) keep(point, 'label', `labels ${pattern}`)
    if (isFuture(point, now)) keep(point, 'future', futureText(point))
  }

  const misdated = misdatedOf(points, now)
  const placed = points.filter((point) => !isFuture(point, now) && !misdated.has(point.id)).sort(newestFirst)
  keepNewest(placed, rules, keep)
  const calendar = calendarOf(rules.timeZone)
  const choices = choosePeriods(placed, rules, calendar)
  for (const { period, name, rank, point } of choices) {
    const count = rules[period] ?? 0
    if (rank <= count) keep(point, period, `${period} ${rank} of ${count}: ${name}`)
  }
  for (const point of points) {
    // Ends: each is dated later than the one before.
    for (let at = misdated.get(point.id); at !== undefined; at = misdated.get(at.id)) {
      if (reasons.get(at.id)?.length === 0) continue
      keep(point, 'misdated', `dated before ${short(at.id)}, which it followed, and kept as long as that`)
      break
    }
  }

  return points.map((point) => {
    const found = reasons.get(point.id) ?? []
    if (found.length > 0) return { id: point.id, keep: true, reasons: found }
    return {
      id: point.id,
      keep: false,
      reasons: [{ rule: 'removed', text: whyRemoved(point, rules, choices, calendar) }],
    }
  })
}

function keepNewest(
  placed: readonly PointFact[],
  rules: RetentionRules,
  keep: (point: PointFact, rule: KeepRule, text: string) => void,
): void {
  const [newest] = placed
  if (newest === undefined) return
  const complete = placed.filter((point) => point.complete)
  keep(newest, 'newest', 'the newest point')
  if (complete[0] !== undefined) keep(complete[0], 'newest-complete', 'the newest complete point')
  if (rules.last !== undefined) {
    const last = new Set([...placed.slice(0, rules.last), ...complete.slice(0, rules.last)])
    for (const point of last) keep(point, 'last', `among the last ${rules.last}`)
  }
  if (rules.withinMs === undefined) return
  const from = newest.committedAt - rules.withinMs
  for (const point of placed) {
    if (point.committedAt >= from) keep(point, 'within', `within ${span(rules.withinMs)} of the newest`)
  }
}

interface Choice {
  period: Period
  /** '2026-05'. */
  name: string
  /** 1: the newest period of this kind that has points. */
  rank: number
  /** Stands for the period. */
  point: PointFact
}

/** For each period of each kind that a rule counts, the point that stands for it. */
function choosePeriods(placed: readonly PointFact[], rules: RetentionRules, calendar: Calendar): Choice[] {
  return PERIODS.filter((period) => rules[period] !== undefined).flatMap((period) => {
    const groups = Map.groupBy(placed, (point) => calendar(point.committedAt, period))
    return [...groups].map(([name, group], i) => {
      const point = (group.find(({ complete }) => complete) ?? group[0]) as PointFact
      return { period, name, rank: i + 1, point }
    })
  })
}

/** Points dated before the one that they followed, with that one; it must be there, and not dated in the future itself. */
function misdatedOf(points: readonly PointFact[], now: number): Map<string, PointFact> {
  const byId = new Map(points.map((point) => [point.id, point]))
  const misdated = new Map<string, PointFact>()
  for (const point of points) {
    const followed = byId.get(point.previous ?? '')
    if (followed === undefined || isFuture(followed, now) || isFuture(point, now)) continue
    if (point.committedAt < followed.committedAt - CLOCK_TOLERANCE_MS) misdated.set(point.id, followed)
  }
  return misdated
}

function futureText(point: PointFact): string {
  return Number.isNaN(point.committedAt) ? 'its date cannot be read' : 'dated later than now: a clock was wrong'
}

/** Also where the date cannot be read. */
function isFuture(point: PointFact, now: number): boolean {
  return !(point.committedAt <= now + CLOCK_TOLERANCE_MS)
}

function whyRemoved(point: PointFact, rules: RetentionRules, choices: readonly Choice[], calendar: Calendar): string {
  const names = new Map(PERIODS.map((period) => [period, calendar(point.committedAt, period)]))
  const other = choices.find(({ period, name, rank }) => rank <= (rules[period] ?? 0) && name === names.get(period))
  return other === undefined ? 'older than the rules reach' : `${short(other.point.id)} is kept for ${other.name}`
}

function newestFirst(a: PointFact, b: PointFact): number {
  return b.committedAt - a.committedAt || (a.id < b.id ? 1 : -1)
}

function matches(pattern: string, label: string | undefined): boolean {
  if (label === undefined) return false
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's').test(label)
}

function span(ms: number): string {
  const hours = ms / 3_600_000
  return hours >= 48 && hours % 24 === 0 ? `${hours / 24} days` : `${Math.round(hours * 10) / 10} hours`
}

function short(id: string): string {
  return id.slice(0, 8)
}
