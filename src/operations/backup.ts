import type { Catalog } from '../catalog/catalog.ts'
import { recordBackup, type TakenPoint } from '../catalog/record.ts'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { type RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point, PointKind } from '../model.ts'
import type { PaceLimits, PointSession, Repository } from '../repository/api.ts'
import type { SourceSummary, TenantPoints } from '../sources/contract.ts'
import { openBook } from './book.ts'
import type { Application, Reporting } from './context.ts'
import { copyLog, copyLogAgain } from './copy-log.ts'
import { copyPoint } from './copy-point.ts'
import { copyTenants } from './copy-tenants.ts'
import { asRegainError } from './failures.ts'
import { Waited } from './gave-way.ts'
import { withRepository } from './repositories.ts'
import { requireRetention } from './require-retention.ts'
import { unneededIn } from './retention-plan.ts'
import { checkSeenSource, rememberPoint } from './seen.ts'
import { commitOrDiscard } from './sessions.ts'
import { openSource } from './sources.ts'
import { destinationsOf, selectTarget, tenantService } from './targets.ts'
import { ensureSecret, ensureTenant, isTenantSource, type TenantSource, tenantId } from './tenants.ts'

export interface BackupRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  kind: PointKind
  label?: string
  /** Which tenant, as the data says it, where `target` stands for one. */
  tenant?: string
}

/** What became of one source at one destination. */
export interface BackupOutcome {
  service: string
  source: string
  destination: string
  durationMs: number
  /** Of these, how long it waited because others kept the processors busy. Zero without a point. */
  gaveWayMs: number
  /** Null if there is none. */
  point: Point | null
  /** Beside a point: that is whole, and this is what a person must see to now. */
  error: RegainError | null
  /** What was found at the destination before, and a person must hear of: see operations/seen.ts. */
  warnings: string[]
}

/**
 * Takes a point of each source. It is read once, into the first destination that takes it; the others get a copy from
 * there (docs/decisions, Several destinations). One that fails does not keep the others from being tried; each is
 * reported by `onOutcome` as it ends. An interruption ends with what there is until then.
 */
export async function backup(
  application: Application,
  request: BackupRequest,
  reporting: Reporting,
  onOutcome: (outcome: BackupOutcome) => void,
): Promise<BackupOutcome[]> {
  const { service, sources } = selectTarget(application.config, request.target)
  requireRetention(service, sources)
  const destinations = destinationsOf(application.config, service)
  const catalog = openBook(application, reporting)
  const outcomes: BackupOutcome[] = []
  try {
    for (const source of sources) {
      let taken: PointElsewhere | null = null
      for (const destination of destinations) {
        if (outcomes.length === 0) throwIfInterrupted(reporting.signal)
        else if (reporting.signal.aborted) return outcomes
        const outcome = await attempt(application, catalog, { service, source, destination, request, taken }, reporting)
        if (outcome.point !== null) taken ??= { destination, point: outcome.point.id }
        outcomes.push(outcome)
        onOutcome(outcome)
      }
    }
  } finally {
    catalog?.close()
  }
  return outcomes
}

export interface OneBackup {
  service: ServiceConfiguration
  source: SourceConfiguration
  destination: DestinationConfiguration
  request: Pick<BackupRequest, 'kind' | 'label' | 'tenant'>
  /** What was taken of this source just now, at another destination. Null: nothing. */
  taken: PointElsewhere | null
}

export interface PointElsewhere {
  destination: DestinationConfiguration
  /** Id of the point there. */
  point: string
}

async function attempt(
  application: Application,
  catalog: Catalog | null,
  one: OneBackup,
  reporting: Reporting,
): Promise<BackupOutcome> {
  const { ambient } = application
  const startedMs = ambient.now()
  const about = { service: one.service.name, source: one.source.name, destination: one.destination.name }
  const durationMs = () => Math.max(0, ambient.now() - startedMs)
  try {
    const take = () => bringPoint(application, one, reporting)
    const run = { ...about, kind: one.request.kind, origin: 'command' as const }
    const taken = await (catalog === null ? take() : recordBackup(catalog, run, ambient, take))
    const { point, trouble: error, warnings = [], gaveWayMs = 0 } = taken
    return { ...about, durationMs: durationMs(), gaveWayMs, point, error, warnings }
  } catch (caught) {
    const error = asRegainError(caught, reporting.signal)
    return { ...about, durationMs: durationMs(), gaveWayMs: 0, point: null, error, warnings: [] }
  }
}

/**
 * Brings a point to one destination: the one that was taken just now at another, or a new one of the source. All of it is
 * durable when this resolves, nothing of it is visible when it rejects. Shared with the daemon.
 */
export async function bringPoint(application: Application, one: OneBackup, reporting: Reporting): Promise<TakenPoint> {
  const { service, source, destination, taken } = one
  return withRepository(application, service, destination, async (repository) => {
    const warnings = await checkSeenSource(application, destination.name, repository, source.name)
    for (const warning of warnings) reporting.warn(warning)
    const brought =
      taken === null
        ? await takePoint(application, one, repository, reporting)
        : await copyTaken(application, one, taken, repository, reporting)
    await rememberPoint(application, repository, brought.point)
    return { ...brought, warnings }
  })
}

function copyTaken(
  application: Application,
  { service, source, destination }: OneBackup,
  taken: PointElsewhere,
  to: Repository,
  reporting: Reporting,
): Promise<TakenPoint> {
  return withRepository(application, service, taken.destination, async (from) => {
    // The log first: a point that is there must find there what it needs to become consistent.
    const logs = { from: from.log(source.name), to: to.log(source.name) }
    await copyLog(logs.from, logs.to, false, reporting)
    // What it tells of must be there: tenants' points come before the one that names them.
    if (isTenantSource(source)) {
      const about = { service, source, from: taken.destination, to: destination, all: false }
      await copyTenants(application, about, { from, to }, reporting)
    }
    const point = await copyPoint(application.ambient, from, to, taken.point, reporting, {
      unneeded: () => unneededIn(application, service, destination, to, reporting),
      begun: (original) => copyLogAgain(application, original, logs, false, reporting),
    })
    return { point, trouble: null }
  })
}

async function takePoint(
  application: Application,
  one: OneBackup,
  repository: Repository,
  reporting: Reporting,
): Promise<TakenPoint> {
  const { service, source, destination, request } = one
  const driver = await openSource(application, { service, source, destination, log: repository.log(source.name) })
  const waited = new Waited()
  const tenants = isTenantSource(source)
    ? await tenantPoints(application, { ...one, source }, repository, reporting, waited)
    : undefined
  const { tenant } = request
  const extra = { ...(tenants === undefined ? {} : { tenants }), ...(tenant === undefined ? {} : { tenant }) }
  const taken = await fillPoint(application, one, repository, reporting, {
    unordered: driver.unordered === true,
    read: (session, kind, progress) => driver.backup(session, { ...reporting, progress, kind, ...extra }),
    waited,
  })
  return { ...taken, gaveWayMs: waited.gaveWayMs }
}

/** What is read into a session, and how. */
interface Reading {
  unordered: boolean
  read(session: PointSession, kind: PointKind, progress: Reporting['progress']): Promise<SourceSummary>
  waited: Waited
}

async function fillPoint(
  application: Application,
  { service, source, destination, request }: OneBackup,
  repository: Repository,
  reporting: Reporting,
  { unordered, read, waited }: Reading,
): Promise<TakenPoint> {
  // Two tell of one backup: the driver while it reads, the engine while it brings the rest to its end.
  let isRead = false
  const session = await repository.startPoint({
    source: source.name,
    sourceType: source.type,
    kind: request.kind,
    label: request.label,
    tool: `regain ${application.version}`,
    unordered,
    limits: limitsOf(service, source),
    unneeded: () => unneededIn(application, service, destination, repository, reporting),
    signal: reporting.signal,
    progress: (progress) => {
      if (isRead) tell(progress)
    },
  })
  const noteWaits = waited.follow(session)
  const tell: Reporting['progress'] = (progress) => {
    noteWaits()
    reporting.progress(waited.beside(progress))
  }
  let trouble: TakenPoint['trouble'] = null
  const point = await commitOrDiscard(application.ambient, session, reporting.signal, async () => {
    // Asking for what changed since nothing would only make the driver warn.
    const summary = await read(session, session.base === null ? 'full' : request.kind, tell)
    isRead = true
    trouble = summary.trouble ?? null
    return summary
  })
  noteWaits()
  return { point, trouble }
}

/** Beside a PostgreSQL server at its limit (docs/decisions/0039). */
const BUSY_SHARE = 0.01

/** What a command stopped for the backup must not stand still for longer because others are busy. */
export function limitsOf({ limits }: ServiceConfiguration, source: SourceConfiguration): PaceLimits {
  const { busyShare = source.type === 'postgres' ? BUSY_SHARE : 1, ...always } = limits
  const isStopped = source.type === 'files' && source.before !== undefined
  return isStopped || busyShare === 1 ? always : { ...always, busyShare }
}

/** Where the points of tenants go while all of them are read: into their own repositories at this destination. */
async function tenantPoints(
  application: Application,
  one: OneBackup & { source: TenantSource },
  repository: Repository,
  reporting: Reporting,
  waited: Waited,
): Promise<TenantPoints> {
  const { service, source, destination } = one
  const secret = await ensureSecret(application, service, source, repository, destination)
  const idOf = (tenant: string) => tenantId(secret, service, source, tenant)
  // The driver tells how far it is, and of what kind all of it is.
  const quiet = { ...reporting, progress: () => {} }
  return {
    idOf,
    async take(tenant, fill) {
      const id = idOf(tenant)
      const own = tenantService(service, source, id)
      await ensureTenant(application, repository, source, own, destination)
      return withRepository(application, own, destination, async (its) => {
        for (const warning of await checkSeenSource(application, destination.name, its, source.name))
          reporting.warn(warning)
        const asked = { ...one, service: own, source: own.sources[source.name]!, taken: null }
        const { point } = await fillPoint(application, asked, its, quiet, {
          unordered: true,
          read: (session) => fill(session, reporting),
          waited,
        })
        await rememberPoint(application, its, point)
        return { id, point: point.id, bytes: point.bytes.source }
      })
    },
  }
}
