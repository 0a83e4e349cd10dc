import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point } from '../model.ts'
import type { Repository, Unneeded } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { copyLog, copyLogAgain } from './copy-log.ts'
import { copyPoint } from './copy-point.ts'
import { copyTenants } from './copy-tenants.ts'
import { asRegainError } from './failures.ts'
import { missingPoints } from './missing-points.ts'
import { withRepository } from './repositories.ts'
import { unneededIn } from './retention-plan.ts'
import { destinationsOf, selectTarget } from './targets.ts'
import { isTenantSource } from './tenants.ts'

export interface ReplicateRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  /** Default: the service's first destination. */
  from?: string
  /** Default: every other one. */
  to?: string
  /** Also what is older than the newest point there. */
  all: boolean
}

/** What became of one source at one destination. */
export interface ReplicateOutcome {
  service: string
  source: string
  from: string
  to: string
  durationMs: number
  /** As they are there now, oldest first. */
  points: Point[]
  logSegments: number
  /** What kept the rest from being copied; null if nothing did. */
  error: RegainError | null
}

/**
 * Brings points and logs from one destination of a service to others, without its sources. Resumable: what was copied
 * before counts, each point is visible only when it is whole. One destination or source that fails does not keep the
 * others from being tried.
 */
export async function replicate(
  application: Application,
  request: ReplicateRequest,
  reporting: Reporting,
  onOutcome: (outcome: ReplicateOutcome) => void,
): Promise<ReplicateOutcome[]> {
  const { config } = application
  const { service, sources } = selectTarget(config, request.target)
  const [from] = destinationsOf(config, service, request.from)
  if (from === undefined) throw new RegainError('internal', `${service.name} has no destination.`)
  const others = destinationsOf(config, service, request.to).filter((destination) => destination.name !== from.name)
  if (others.length === 0)
    throw new RegainError('usage', `${service.name} has no destination to copy to besides ${from.name}.`, {
      hint: 'Name another destination under destinations: of the service, then run: regain init',
    })
  const outcomes: ReplicateOutcome[] = []
  await withRepository(application, service, from, async (origin) => {
    for (const destination of others)
      for (const source of sources) {
        if (outcomes.length > 0 && reporting.signal.aborted) return
        throwIfInterrupted(reporting.signal)
        const about = { service: service.name, source: source.name, from: from.name, to: destination.name }
        const startedMs = application.ambient.now()
        const outcome: ReplicateOutcome = { ...about, durationMs: 0, points: [], logSegments: 0, error: null }
        try {
          await withRepository(application, service, destination, (target) => {
            const unneeded = () => unneededIn(application, service, destination, target, reporting)
            const tenants = async () => {
              const about = { service, from, to: destination, all: request.all }
              if (isTenantSource(source))
                await copyTenants(application, { ...about, source }, { from: origin, to: target }, reporting)
            }
            return copySource(application, origin, target, outcome, { all: request.all, unneeded, tenants }, reporting)
          })
        } catch (error) {
          outcome.error = asRegainError(error, reporting.signal)
        }
        outcome.durationMs = Math.max(0, application.ambient.now() - startedMs)
        outcomes.push(outcome)
        onOutcome(outcome)
      }
  })
  return outcomes
}

/** Fills `outcome` as it goes, so that what was copied before a failure is told. */
async function copySource(
  application: Application,
  from: Repository,
  to: Repository,
  outcome: ReplicateOutcome,
  { all, unneeded, tenants }: { all: boolean; unneeded: () => Promise<Unneeded>; tenants: () => Promise<void> },
  reporting: Reporting,
): Promise<void> {
  const { source } = outcome
  const { ambient } = application
  const here = { repository: from.id, points: await from.points({ source }) }
  const there = { repository: to.id, points: await to.points({ source }) }
  const missing = missingPoints(here, there, { all, now: ambient.now() })
  // The log first: a point that is there must find there what it needs to become consistent.
  const logs = { from: from.log(source), to: to.log(source) }
  outcome.logSegments = await copyLog(logs.from, logs.to, all, reporting)
  await tenants()
  for (const { id } of missing) {
    const again = async (point: Point) => {
      outcome.logSegments += await copyLogAgain(application, point, logs, all, reporting)
    }
    outcome.points.push(await copyPoint(ambient, from, to, id, reporting, { unneeded, begun: again }))
  }
}
