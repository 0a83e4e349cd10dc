import { PERIODS } from './calendar.ts'
import type { PointFact, RetentionDecision, RetentionRules } from './retention.ts'

/**
 * How much of a source's log is kept: from which kept points on all of it, and for which only what makes them consistent.
 * Pure. The driver turns it into names of segments.
 */
export interface LogRules {
  /** The log reaches back this far from the newest point; 'all': to the oldest kept point. Left out: see below. */
  log?: number | 'all'
}

export interface LogDecision {
  /**
   * Kept points from which any later moment can be reached: all log from their start on stays. Of the other kept points
   * only the log of their own backup does, so each can be restored as it is.
   */
  onward: ReadonlySet<string>
  /** The point that the log begins with; null: nothing of the log goes. */
  from: string | null
  /** For people: a clause without a full stop. */
  reason: string
}

const KEPT_APART = new Set(['future', 'misdated'])

/**
 * The log is kept from the oldest kept point that is no older than the log's own retention. Without one of its own, it is
 * kept as far back as the finest rules keep points: `last`, `within` and `daily` together, else the weeks, months or years.
 */
export function decideLog(
  points: readonly PointFact[],
  decisions: readonly RetentionDecision[],
  rules: RetentionRules & LogRules,
): LogDecision {
  const kept = new Map(decisions.filter(({ keep }) => keep).map((decision) => [decision.id, decision]))
  const all = new Set(kept.keys())
  const isPlaced = ({ id }: PointFact) => !kept.get(id)?.reasons.some(({ rule }) => KEPT_APART.has(rule))
  const placed = points.filter((point) => all.has(point.id) && isPlaced(point)).sort(oldestFirst)
  const newest = placed.at(-1)
  if (rules.all === true || newest === undefined) return { onward: all, from: null, reason: 'all of the log is kept' }

  const { first, reason } = firstOf(placed, newest, kept, rules)
  // What has no place in time could be later than it says.
  const apart = points.filter((point) => all.has(point.id) && !isPlaced(point))
  const onward = placed.filter((point) => point.committedAt >= first.committedAt)
  return { onward: new Set([...onward, ...apart].map(({ id }) => id)), from: first.id, reason }
}

function firstOf(
  placed: readonly PointFact[],
  newest: PointFact,
  kept: ReadonlyMap<string, RetentionDecision>,
  rules: RetentionRules & LogRules,
): { first: PointFact; reason: string } {
  const { log } = rules
  const oldest = placed[0] ?? newest
  if (log === 'all') return { first: oldest, reason: 'from the oldest point on' }
  if (log !== undefined) {
    const first = placed.find(({ committedAt }) => committedAt >= newest.committedAt - log) ?? newest
    return { first, reason: 'from the oldest point within the time that the log is kept' }
  }
  const finest = finestRules(rules)
  const first = placed.find(({ id }) => kept.get(id)?.reasons.some(({ rule }) => finest.includes(rule))) ?? oldest
  return { first, reason: `from the oldest point kept by ${finest.join(', ')}` }
}

function finestRules(rules: RetentionRules): string[] {
  const recent = [
    ...(rules.last === undefined ? [] : ['last']),
    ...(rules.withinMs === undefined ? [] : ['within']),
    ...(rules.daily === undefined ? [] : ['daily']),
  ]
  return recent.length > 0 ? recent : PERIODS.filter((period) => rules[period] !== undefined).slice(0, 1)
}

function oldestFirst(a: PointFact, b: PointFact): number {
  return a.committedAt - b.committedAt || (a.id < b.id ? -1 : 1)
}
