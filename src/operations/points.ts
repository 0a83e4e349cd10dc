import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point } from '../model.ts'
import type { Repository } from '../repository/api.ts'
import type { Application, RecoveryWindow, Reporting } from './context.ts'
import { withRepository } from './repositories.ts'
import { checkSeen } from './seen.ts'
import { sourceRequest } from './sources.ts'
import { destinationsOf, selectTargets, type Target } from './targets.ts'
import { unfinishedRekey } from './unfinished-rekey.ts'

export interface PointsRequest {
  /** SERVICE or SERVICE/SOURCE; undefined: everything. */
  target?: string
  destination?: string
}

/** What one source can be brought back to from one destination. */
export interface SourcePoints {
  service: string
  source: string
  sourceType: string
  destination: string
  /** Oldest first. */
  points: Point[]
  /** Of these, the ones that are held, by id: why. */
  holds: Record<string, string>
  /** Null for sources without a log: only the points themselves can be restored. */
  windows: RecoveryWindow[] | null
  /** False for points of a source that the configuration does not have any more. */
  isConfigured: boolean
}

/**
 * Lists recovery points and windows. A destination that cannot be read is a warning as long as another one can: the
 * list is then incomplete. When none can, it rejects with the first one's error.
 */
export async function listPoints(
  application: Application,
  request: PointsRequest,
  reporting: Reporting,
): Promise<SourcePoints[]> {
  const found: SourcePoints[] = []
  for (const target of selectTargets(application.config, request.target)) {
    found.push(...(await pointsOfTarget(application, target, request.destination, reporting)))
  }
  return found
}

async function pointsOfTarget(
  application: Application,
  target: Target,
  onlyDestination: string | undefined,
  reporting: Reporting,
): Promise<SourcePoints[]> {
  const { service } = target
  return fromReadable(application, service, onlyDestination, reporting, async (repository, destination) => {
    let points: Point[] | null = null
    const read = async () => {
      points ??= await repository.points()
      return points
    }
    const rekey = unfinishedRekey(repository, service.name)
    if (rekey !== null) reporting.warn(`At ${destination.name} ${rekey.message}. ${rekey.fix}`)
    for (const { detail } of await checkSeen(application, destination.name, repository, read)) reporting.warn(detail)
    return pointsAt(application, target, repository, destination, await read())
  })
}

/** Runs `read` at each destination of the service and puts the results together; see listPoints for what cannot be read. */
export async function fromReadable<T>(
  application: Application,
  service: ServiceConfiguration,
  onlyDestination: string | undefined,
  reporting: Reporting,
  read: (repository: Repository, destination: DestinationConfiguration) => Promise<T[]>,
): Promise<T[]> {
  const results: T[] = []
  const failures: { destination: string; error: RegainError }[] = []
  const destinations = destinationsOf(application.config, service, onlyDestination)
  for (const destination of destinations) {
    throwIfInterrupted(reporting.signal)
    try {
      results.push(...(await withRepository(application, service, destination, (repo) => read(repo, destination))))
    } catch (error) {
      if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
      failures.push({ destination: destination.name, error })
    }
  }
  if (failures.length === destinations.length && failures[0] !== undefined) throw failures[0].error
  for (const { destination, error } of failures) {
    reporting.warn(`The destination ${destination} could not be read, so what it holds is not shown: ${error.message}`)
  }
  return results
}

async function pointsAt(
  application: Application,
  target: Target,
  repository: Repository,
  destination: DestinationConfiguration,
  all: readonly Point[],
): Promise<SourcePoints[]> {
  const { service, sources, isOneSource } = target
  const bySource = Map.groupBy(all, (point) => point.source)
  const held = new Map((await repository.holds()).map(({ point, reason }) => [point, reason]))
  const holdsOf = (points: readonly Point[]) =>
    Object.fromEntries(points.flatMap(({ id }) => (held.has(id) ? [[id, held.get(id) ?? '']] : [])))
  const result: SourcePoints[] = []
  for (const source of sources) {
    const points = bySource.get(source.name) ?? []
    bySource.delete(source.name)
    const request = sourceRequest(application, { service, source, destination, log: repository.log(source.name) })
    result.push({
      service: service.name,
      source: source.name,
      sourceType: source.type,
      destination: destination.name,
      points,
      holds: holdsOf(points),
      windows: await application.drivers.recoveryWindows(request, points),
      isConfigured: true,
    })
  }
  if (isOneSource) return result
  for (const [source, points] of bySource) {
    const sourceType = points.at(-1)!.sourceType
    const common = { service: service.name, source, sourceType, destination: destination.name }
    result.push({ ...common, points, holds: holdsOf(points), windows: null, isConfigured: false })
  }
  return result
}
