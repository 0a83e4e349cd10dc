import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import type { Retention } from '../config/retention.ts'
import { RegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import { decideLog } from '../policy/log-retention.ts'
import { decideRetention, type PointFact, type Reason } from '../policy/retention.ts'
import type { LogRange, PointHold, Repository, Unneeded } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { sourceRequest } from './sources.ts'

/** What the policy says of everything in one repository. Plain data. */
export interface RetentionPlan {
  /** By source, oldest first. */
  points: WeighedPoint[]
  logs: WeighedLog[]
  trimLog: LogRange[]
}

export interface WeighedPoint {
  source: string
  id: string
  committedAt: string
  complete: boolean
  label?: string
  keep: boolean
  reasons: Reason[]
}

export interface WeighedLog {
  source: string
  /** The point from which on any moment stays within reach; null: nothing of this log goes. */
  from: string | null
  reason: string
}

/** Weighs points and logs by the rules of each source. Changes nothing. */
export async function planRetention(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  repository: Repository,
  reporting: Reporting,
): Promise<RetentionPlan> {
  const plan: RetentionPlan = { points: [], logs: [], trimLog: [] }
  // Before the points: one that is held in between is seen by the removal itself.
  const holds = new Map((await repository.holds()).map((hold) => [hold.point, hold]))
  for (const [source, points] of Map.groupBy(await repository.points(), (point) => point.source)) {
    const settings = service.sources[source]
    const rules = service.retention[source]
    if (settings === undefined || rules === undefined) {
      plan.points.push(...points.map((point) => keptWithoutRules(point, settings)))
      continue
    }
    const facts = points.map((point) => factOf(point, holds.get(point.id)))
    const decisions = decideRetention(facts, rules, application.ambient.now())
    plan.points.push(...points.map((point, i) => ({ ...about(point), ...decisions[i]! })))
    await planLog(settings, rules, points, facts, decisions)
  }
  return plan

  async function planLog(
    source: SourceConfiguration,
    rules: Retention,
    points: readonly Point[],
    facts: readonly PointFact[],
    decisions: ReturnType<typeof decideRetention>,
  ): Promise<void> {
    const { from, reason, onward } = decideLog(facts, decisions, rules)
    const kept = points.filter((_, i) => decisions[i]?.keep).map((point) => ({ point, onward: onward.has(point.id) }))
    const request = sourceRequest(application, { service, source, destination, log: repository.log(source.name) })
    try {
      const ranges = from === null ? [] : await application.drivers.unneededLog(request, kept)
      if (ranges === null) return
      plan.logs.push({ source: source.name, from, reason })
      plan.trimLog.push(...ranges.map(({ branch, from, to }) => ({ source: source.name, branch, from, to })))
    } catch (error) {
      // Points and their data are another matter; a log that nobody can read is removed by nobody.
      if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
      reporting.warn(`Nothing of the log of ${service.name}/${source.name} is removed: ${error.message}`)
    }
  }
}

/** What a session that commits asks for (StartPoint.unneeded). */
export async function unneededIn(...about: Parameters<typeof planRetention>): Promise<Unneeded> {
  const { points, trimLog } = await planRetention(...about)
  return { points: points.filter(({ keep }) => !keep).map(({ id }) => id), log: trimLog }
}

function about(point: Point): Omit<WeighedPoint, 'keep' | 'reasons'> {
  const { source, id, committedAt, complete, label } = point
  return { source, id, committedAt, complete, ...(label === undefined ? {} : { label }) }
}

function keptWithoutRules(point: Point, source: SourceConfiguration | undefined): WeighedPoint {
  const text =
    source === undefined ? 'its source is not in the configuration any more' : 'its source has no retention rules'
  return { ...about(point), keep: true, reasons: [{ rule: 'all', text }] }
}

function factOf(point: Point, hold: PointHold | undefined): PointFact {
  const { id, committedAt, complete, label, previous, origin } = point
  return {
    id,
    committedAt: Date.parse(committedAt),
    complete,
    ...(label === undefined ? {} : { label }),
    ...(hold === undefined ? {} : { hold: hold.reason }),
    // A copy is dated as its original, and may follow a newer one here: that says nothing of a clock.
    ...(previous === undefined || origin !== undefined ? {} : { previous: previous.id }),
  }
}
