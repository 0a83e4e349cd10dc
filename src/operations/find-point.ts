import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point } from '../model.ts'
import type { OpenPoint } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { choosePoint, parseMoment } from './moments.ts'
import { withRepository } from './repositories.ts'
import { destinationsOf, selectTarget, type Target } from './targets.ts'

export interface FoundPoint {
  service: ServiceConfiguration
  destination: DestinationConfiguration
  point: Point
}

/**
 * Finds what a person means by POINT: an id or a unique prefix of it, in any repository of the configuration, or
 * SERVICE/SOURCE for its newest point, or SERVICE/SOURCE@WHEN.
 */
export async function findPoint(application: Application, text: string, reporting: Reporting): Promise<FoundPoint> {
  const named = /[/.]/.test(text) || Object.hasOwn(application.config.services, text)
  const matches = named
    ? await pointsOfSource(application, text, reporting)
    : await pointsWithId(application, text.toLowerCase(), reporting)
  const first = matches[0]
  if (first === undefined) {
    throw new RegainError('point-not-found', `There is no point ${named ? 'of' : 'whose id begins with'} ${text}.`)
  }
  const other = matches.find((match) => match.point.id !== first.point.id)
  if (!named && other !== undefined) {
    throw new RegainError('usage', `Several points begin with ${text}.`, { hint: 'Write more digits of the id.' })
  }
  return first
}

/** Opens a point that was found, hands it to `use`, and closes it whatever happens. */
export async function withPoint<T>(
  application: Application,
  found: FoundPoint,
  reporting: Reporting,
  use: (point: OpenPoint) => Promise<T>,
): Promise<T> {
  return withRepository(application, found.service, found.destination, async (repository) => {
    const point = await repository.openPoint(found.point.id, { signal: reporting.signal })
    try {
      return await use(point)
    } finally {
      await point.close()
    }
  })
}

async function pointsWithId(application: Application, prefix: string, reporting: Reporting): Promise<FoundPoint[]> {
  if (!/^[0-9a-f]{4,32}$/.test(prefix)) {
    throw new RegainError('usage', `"${prefix}" is not a point.`, {
      hint: 'Write at least 4 digits of its id, or SERVICE/SOURCE for its newest point.',
    })
  }
  const targets = Object.keys(application.config.services).map((name) => selectTarget(application.config, name))
  return search(application, targets, reporting, (points) => points.filter((point) => point.id.startsWith(prefix)))
}

async function pointsOfSource(application: Application, text: string, reporting: Reporting): Promise<FoundPoint[]> {
  const [name = '', when = 'latest'] = text.split('@', 2)
  const target = selectTarget(application.config, name)
  if (target.sources.length > 1) {
    throw new RegainError('usage', `${name} has several sources.`, {
      hint: `Name one: ${target.sources.map((source) => `${name}/${source.name}`).join(', ')}`,
    })
  }
  const moment = parseMoment(when)
  const matches = await search(application, [target], reporting, (points) => {
    const point = choosePoint(
      points.filter((candidate) => candidate.source === target.sources[0]!.name),
      moment,
    )
    return point === null ? [] : [point]
  })
  return matches.toSorted((a, b) => (a.point.committedAt < b.point.committedAt ? 1 : -1))
}

/** What `select` picks at every destination that can be read; rejects if none of any service can. */
async function search(
  application: Application,
  targets: Target[],
  reporting: Reporting,
  select: (points: Point[]) => Point[],
): Promise<FoundPoint[]> {
  const found: FoundPoint[] = []
  let failure = null as RegainError | null
  let readable = 0
  for (const { service } of targets) {
    for (const destination of destinationsOf(application.config, service)) {
      throwIfInterrupted(reporting.signal)
      try {
        const points = await withRepository(application, service, destination, (repository) => repository.points())
        found.push(...select(points).map((point) => ({ service, destination, point })))
        readable++
      } catch (error) {
        if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
        failure ??= error
        if (error.code !== 'repository-not-found') {
          reporting.warn(`${service.name} at ${destination.name} could not be read: ${error.message}`)
        }
      }
    }
  }
  if (readable === 0 && failure !== null) throw failure
  return found
}
