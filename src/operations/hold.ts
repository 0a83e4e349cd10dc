import { isRegainError, throwIfInterrupted } from '../errors.ts'
import { originOf, type Point } from '../model.ts'
import type { Application, Reporting } from './context.ts'
import { findPoint } from './find-point.ts'
import { withRepository } from './repositories.ts'
import { destinationsOf } from './targets.ts'

export interface HoldOutcome {
  service: string
  source: string
  destination: string
  point: Point
  /** False: it was held already, or not held. */
  changed: boolean
}

/**
 * Holds a point, or with a `reason` of null releases it, wherever the service keeps a copy of it. A destination that cannot be
 * reached is warned about: what it holds is then not held. Rejects if none could be changed.
 */
export async function hold(
  application: Application,
  pointText: string,
  reason: string | null,
  reporting: Reporting,
): Promise<HoldOutcome[]> {
  const found = await findPoint(application, pointText, reporting)
  const { service } = found
  const origin = await withRepository(application, service, found.destination, async ({ id }) =>
    originOf(found.point, id),
  )
  const outcomes: HoldOutcome[] = []
  for (const destination of destinationsOf(application.config, service)) {
    throwIfInterrupted(reporting.signal)
    try {
      await withRepository(application, service, destination, async (repository) => {
        for (const point of await repository.points({ source: found.point.source })) {
          const its = originOf(point, repository.id)
          if (its.repository !== origin.repository || its.point !== origin.point) continue
          const changed = reason === null ? await repository.release(point.id) : await repository.hold(point.id, reason)
          outcomes.push({
            service: service.name,
            source: point.source,
            destination: destination.name,
            point,
            changed,
          })
        }
      })
    } catch (error) {
      // Where the point was found it must succeed; elsewhere there may be no copy to begin with.
      if (!isRegainError(error) || error.code === 'interrupted' || destination.name === found.destination.name)
        throw error
      reporting.warn(
        `${service.name} at ${destination.name} could not be asked for a copy of the point: ${error.message}`,
      )
    }
  }
  return outcomes
}
