import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import type { Application, Reporting, SourceRequest } from './context.ts'
import { choosePoint, formatMoment } from './moments.ts'
import { fromReadable } from './points.ts'
import { sourceRequest } from './sources.ts'

/** Where the restore of one source begins, and how far its log goes. */
export interface Start {
  point: Point
  destination: DestinationConfiguration
  /** RFC 3339 UTC: what is kept reaches this far. */
  until: string
  notes: string[]
  logBytes: number
}

/**
 * Asks every destination; of several that can serve, the one that reaches furthest, and of equals the first of the
 * configuration. When none can, the first reason is told.
 */
export async function findStart(
  application: Application,
  service: ServiceConfiguration,
  source: SourceConfiguration,
  request: { at: RestoreMoment; destination?: string },
  reporting: Reporting,
): Promise<Start> {
  const starts = await fromReadable<Start | RegainError>(
    application,
    service,
    request.destination,
    reporting,
    async (repository, destination) => {
      const points = await repository.points({ source: source.name })
      const log = repository.log(source.name)
      const asked = sourceRequest(application, { service, source, destination, log })
      try {
        return [await startAt(application, asked, points, request.at, reporting.signal)]
      } catch (error) {
        if (error instanceof RegainError && UNSERVED.includes(error.code)) return [error]
        throw error
      }
    },
  )
  let best: Start | null = null
  for (const start of starts) {
    if (start instanceof RegainError) continue
    if (best === null || start.until > best.until) best = start
  }
  if (best !== null) return best
  throw starts[0]
}

/** What one destination says when another may still serve. */
const UNSERVED = ['point-not-found', 'moment-unreachable']

async function startAt(
  application: Application,
  asked: SourceRequest,
  points: Point[],
  at: RestoreMoment,
  signal: AbortSignal,
): Promise<Start> {
  const name = `${asked.service.name}/${asked.source.name}`
  const { destination } = asked
  const first = points[0]
  if (first === undefined) {
    throw new RegainError('point-not-found', `There is no recovery point of ${name} at ${destination.name}.`, {
      hint: `Take one with: regain backup ${name}`,
    })
  }
  const chosen = choosePoint(points, at)
  if (at.kind === 'point' && chosen === null) {
    throw new RegainError('point-not-found', `${name} has no point whose id begins with ${at.id}.`)
  }
  const whole = at.kind === 'point' ? { kind: 'point' as const, id: chosen!.id } : at
  const plan = await application.drivers.planRecovery(asked, points, whole, signal)
  if (plan !== null) {
    const point = points.find(({ id }) => id === plan.point)!
    return { point, destination, until: plan.until, notes: plan.notes, logBytes: plan.logBytes }
  }
  if (chosen !== null) return { point: chosen, destination, until: chosen.committedAt, notes: [], logBytes: 0 }
  throw new RegainError(
    'moment-unreachable',
    `${name} cannot be brought back to ${formatMoment(at)}: its first point was committed at ${first.committedAt}.`,
  )
}
