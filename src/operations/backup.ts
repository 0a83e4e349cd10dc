import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import { recordBackup, type TakenPoint } from '../catalog/record.ts'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { type RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point, PointKind } from '../model.ts'
import type { PointSession } from '../repository/api.ts'
import type { Source } from '../sources/contract.ts'
import type { Application, Reporting } from './context.ts'
import { asRegainError } from './failures.ts'
import { withRepository } from './repositories.ts'
import { openSource } from './sources.ts'
import { destinationsOf, selectTarget } from './targets.ts'

export interface BackupRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  kind: PointKind
  label?: string
}

/** What became of one source at one destination. */
export interface BackupOutcome {
  service: string
  source: string
  destination: string
  durationMs: number
  /** Null if there is none. */
  point: Point | null
  /** Beside a point: that is whole, and this is what a person must see to now. */
  error: RegainError | null
}

/**
 * Takes a point of each source at each destination, one after the other. One that fails does not keep the others from
 * being taken; each is reported by `onOutcome` as it ends. An interruption ends with what there is until then.
 */
export async function backup(
  application: Application,
  request: BackupRequest,
  reporting: Reporting,
  onOutcome: (outcome: BackupOutcome) => void,
): Promise<BackupOutcome[]> {
  const { service, sources } = selectTarget(application.config, request.target)
  const destinations = destinationsOf(application.config, service)
  const catalog = tryOpenCatalog(application, reporting)
  const outcomes: BackupOutcome[] = []
  try {
    for (const source of sources) {
      for (const destination of destinations) {
        if (outcomes.length === 0) throwIfInterrupted(reporting.signal)
        else if (reporting.signal.aborted) return outcomes
        const outcome = await attempt(application, catalog, { service, source, destination, request }, reporting)
        outcomes.push(outcome)
        onOutcome(outcome)
      }
    }
  } finally {
    catalog?.close()
  }
  return outcomes
}

interface OneBackup {
  service: ServiceConfiguration
  source: SourceConfiguration
  destination: DestinationConfiguration
  request: Pick<BackupRequest, 'kind' | 'label'>
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
  const outcome = (point: Point | null, error: RegainError | null): BackupOutcome => ({
    ...about,
    durationMs: Math.max(0, ambient.now() - startedMs),
    point,
    error,
  })
  try {
    const take = () => takePoint(application, one, reporting)
    const run = { ...about, kind: one.request.kind, origin: 'command' as const }
    const { point, trouble } = await (catalog === null ? take() : recordBackup(catalog, run, ambient, take))
    return outcome(point, trouble)
  } catch (error) {
    return outcome(null, asRegainError(error, reporting.signal))
  }
}

/**
 * Takes one point and commits it: all of it is durable when this resolves, nothing of it is visible when it rejects.
 * Shared with the daemon.
 */
export async function takePoint(application: Application, one: OneBackup, reporting: Reporting): Promise<TakenPoint> {
  const { service, source, destination, request } = one
  return withRepository(application, service, destination, async (repository) => {
    const driver = await openSource(application, { service, source, destination, log: repository.log(source.name) })
    // Two tell of one backup: the driver while it reads, the engine while it brings the rest to its end.
    let isRead = false
    const session = await repository.startPoint({
      source: source.name,
      sourceType: source.type,
      kind: request.kind,
      label: request.label,
      tool: `regain ${application.version}`,
      unordered: driver.unordered === true,
      signal: reporting.signal,
      progress: (progress) => {
        if (isRead) reporting.progress(progress)
      },
    })
    return fillAndCommit(application, driver, session, request.kind, reporting, () => {
      isRead = true
    })
  })
}

async function fillAndCommit(
  application: Application,
  driver: Source,
  session: PointSession,
  kind: PointKind,
  reporting: Reporting,
  onRead: () => void,
): Promise<TakenPoint> {
  try {
    // Asking for what changed since nothing would only make the driver warn.
    const summary = await driver.backup(session, { ...reporting, kind: session.base === null ? 'full' : kind })
    onRead()
    throwIfInterrupted(reporting.signal)
    return { point: await session.commit(summary), trouble: summary.trouble ?? null }
  } catch (error) {
    try {
      await session.discard()
    } catch (discardError) {
      // What failed first is what a person must hear of; what the session leaves behind is invisible and cleaned later.
      application.ambient.log(
        'warning',
        `A session could not be given up: ${asRegainError(discardError, reporting.signal).message}`,
      )
    }
    throw error
  }
}

/** The local book of runs is a convenience: without it a backup is taken all the same. */
function tryOpenCatalog(application: Application, reporting: Reporting): Catalog | null {
  const { config, ambient, processId } = application
  try {
    const catalog = openCatalog({ directory: config.state, ambient, pid: processId })
    if (catalog.notice !== null) reporting.warn(catalog.notice)
    return catalog
  } catch (error) {
    const { message } = asRegainError(error, reporting.signal)
    reporting.warn(`This run is not noted in the state directory ${config.state}: ${message}`)
    return null
  }
}
