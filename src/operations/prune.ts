import type { Catalog } from '../catalog/catalog.ts'
import { recordPrune } from '../catalog/record.ts'
import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { PrunePlan, PruneReport, Repository } from '../repository/api.ts'
import { tellsDestroyed } from '../repository/repository.ts'
import { openBook } from './book.ts'
import type { Application, Reporting } from './context.ts'
import { asRegainError } from './failures.ts'
import { withRepository } from './repositories.ts'
import { planRetention, type WeighedLog, type WeighedPoint } from './retention-plan.ts'
import { checkSeen } from './seen.ts'
import { destinationsOf, selectServices } from './targets.ts'
import { tenantsOf } from './tenants.ts'

export type { PruneReport } from '../repository/api.ts'

export interface PruneRequest {
  /** SERVICE; undefined: every service. */
  service?: string
  destination?: string
  /** Make the plan and leave it at that. */
  dryRun: boolean
}

/** Everything that one prune will do, made before anything is touched. Plain data. */
export interface ServicePlan {
  points: WeighedPoint[]
  logs: WeighedLog[]
  removal: PrunePlan
}

export interface PruneOutcome {
  service: string
  destination: string
  durationMs: number
  /** Null if it could not be made. */
  plan: ServicePlan | null
  /** Null if nothing was carried out. */
  report: PruneReport | null
  error: RegainError | null
}

/**
 * Removes what the retention rules do not keep, and what is left of it, at each destination of the services. One that fails
 * does not keep the others from being tried; each is reported by `onOutcome` as it ends.
 */
export async function prune(
  application: Application,
  request: PruneRequest,
  reporting: Reporting,
  onOutcome: (outcome: PruneOutcome) => void,
): Promise<PruneOutcome[]> {
  const outcomes: PruneOutcome[] = []
  const { config } = application
  const services = selectServices(config, request.service)
  const targets = services.flatMap((service) =>
    destinationsOf(config, service, request.destination).map((destination) => ({ service, destination })),
  )
  const catalog = request.dryRun ? null : openBook(application, reporting)
  try {
    for (const { service, destination } of targets) {
      if (outcomes.length === 0) throwIfInterrupted(reporting.signal)
      else if (reporting.signal.aborted) return outcomes
      for (const one of [service, ...(await tenantsThere(application, service, destination, reporting))]) {
        if (outcomes.length > 0 && reporting.signal.aborted) return outcomes
        const outcome = await attempt(application, catalog, one, destination, request.dryRun, reporting)
        outcomes.push(outcome)
        onOutcome(outcome)
      }
    }
  } finally {
    catalog?.close()
  }
  return outcomes
}

/** Without those whose keys were destroyed, of which nothing can be told any more, and those that can't be opened. */
async function tenantsThere(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  reporting: Reporting,
): Promise<ServiceConfiguration[]> {
  const told = (name: string, error: unknown): void => {
    const { code, message } = asRegainError(error, reporting.signal)
    if (code !== 'interrupted' && !tellsDestroyed(error))
      reporting.warn(`${name} at ${destination.name} is not pruned: ${message}`)
  }
  const there: ServiceConfiguration[] = []
  let tenants: ServiceConfiguration[] = []
  try {
    tenants = await tenantsOf(application, service, destination.name)
  } catch (error) {
    told(`What ${service.name} has of tenants`, error)
  }
  for (const tenant of tenants) {
    if (reporting.signal.aborted) break
    try {
      await withRepository(application, tenant, destination, async () => undefined)
      there.push(tenant)
    } catch (error) {
      told(tenant.name, error)
    }
  }
  return there
}

async function attempt(
  application: Application,
  catalog: Catalog | null,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  dryRun: boolean,
  reporting: Reporting,
): Promise<PruneOutcome> {
  const { ambient } = application
  const startedMs = ambient.now()
  const about = { service: service.name, destination: destination.name }
  const outcome: PruneOutcome = { ...about, durationMs: 0, plan: null, report: null, error: null }
  try {
    const work = () =>
      withRepository(application, service, destination, async (repository) => {
        outcome.plan = await planPrune(application, service, destination, repository, reporting)
        if (!dryRun) outcome.report = await repository.prune(outcome.plan.removal, reporting)
        return outcome.report
      })
    await (catalog === null ? work() : recordPrune(catalog, { ...about, origin: 'command' }, ambient, work))
  } catch (error) {
    outcome.error = asRegainError(error, reporting.signal)
  }
  outcome.durationMs = Math.max(0, ambient.now() - startedMs)
  return outcome
}

/**
 * Plans and prunes one repository, and those of its tenants, for the daemon, which keeps its own book. Then goes on with a rekey that was begun and cut
 * short: nobody else would, and until it is done what was stored before it still opens with the old data key.
 */
export async function pruneRepository(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  reporting: Reporting,
): Promise<PruneReport> {
  const report = await pruneOne(application, service, destination, reporting)
  for (const tenant of await tenantsThere(application, service, destination, reporting)) {
    const its = await pruneOne(application, tenant, destination, reporting)
    report.expired.push(...its.expired)
    report.packs.removed += its.packs.removed
    report.packs.repacked += its.packs.repacked
    report.bytesFreed += its.bytesFreed
    report.bytesLater += its.bytesLater
    report.waits.push(...its.waits.map((wait) => `${tenant.name}: ${wait}`))
  }
  return report
}

async function pruneOne(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  reporting: Reporting,
): Promise<PruneReport> {
  const about = { service: service.name, destination: destination.name }
  return withRepository(application, service, destination, async (repository) => {
    const { removal } = await planPrune(application, service, destination, repository, reporting)
    const report = await repository.prune(removal, reporting)
    if (repository.keyEpoch.oldest >= repository.keyEpoch.current) return report
    const rekey = await repository.rekey(reporting)
    if (rekey.done) application.ambient.log('info', `The rekey to key epoch ${rekey.epoch} is done.`, about)
    return { ...report, waits: [...report.waits, ...rekey.waits] }
  })
}

async function planPrune(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  repository: Repository,
  reporting: Reporting,
): Promise<ServicePlan> {
  await assertNotSetBack(application, destination, repository)
  const { points, logs, trimLog } = await planRetention(application, service, destination, repository, reporting)
  const expire = points
    .filter(({ keep }) => !keep)
    .map(({ id, reasons }) => ({ id, reason: `retention: ${reasons.map(({ text }) => text).join('; ')}` }))
  const weighed = points.map(({ id }) => id)
  const { signal, progress } = reporting
  const removal = await repository.planPrune({ expire, trimLog, weighed, signal, progress })
  return { points, logs, removal }
}

/** Where points have gone that nobody removed, what is left may be all that there is; rules made for more must not thin it. */
async function assertNotSetBack(
  application: Application,
  destination: DestinationConfiguration,
  repository: Repository,
): Promise<void> {
  const [problem] = await checkSeen(application, destination.name, repository, () => repository.points())
  if (problem === undefined) return
  throw new RegainError('precondition-failed', `Nothing was removed. ${problem.detail}`, {
    hint: 'Find out what happened to the store before anything more is removed from it.',
  })
}
