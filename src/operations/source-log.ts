import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import type { Repository } from '../repository/api.ts'
import type { LogStore } from '../sources/contract.ts'
import type { Application, SourceRequest } from './context.ts'
import { EveryDestination } from './every-destination.ts'
import { withRepository } from './repositories.ts'
import { sourceRequest } from './sources.ts'

/** The log of one source, in all destinations of its service at once. */
export interface OpenedLog {
  log: LogStore
  /** For the drivers; of the first destination. */
  request: SourceRequest
  /**
   * Why the newest log is of no use without a new point, if it lies behind a break that no point covers: whoever found the
   * break may have ended before the point was taken. Undefined: it is of use, or there is no point at all, which is the
   * schedule's matter.
   */
  uncovered(): Promise<string | undefined>
}

interface Opened {
  destination: DestinationConfiguration
  repository: Repository
}

/** Opens the repository of each destination, one inside the other, and closes them after `use`. */
export function withSourceLog<T>(
  application: Application,
  service: ServiceConfiguration,
  source: SourceConfiguration,
  destinations: readonly DestinationConfiguration[],
  use: (opened: OpenedLog) => Promise<T>,
): Promise<T> {
  const openFrom = (opened: readonly Opened[]): Promise<T> => {
    const destination = destinations[opened.length]
    if (destination === undefined) return use(openedLog(application, service, source, opened))
    return withRepository(application, service, destination, (repository) =>
      openFrom([...opened, { destination, repository }]),
    )
  }
  return openFrom([])
}

function openedLog(
  application: Application,
  service: ServiceConfiguration,
  source: SourceConfiguration,
  opened: readonly Opened[],
): OpenedLog {
  const [first] = opened
  if (first === undefined) throw new RegainError('internal', `${service.name} has no destination.`)
  const logs = opened.map(({ repository }) => repository.log(source.name))
  const log = logs.length === 1 ? logs[0]! : new EveryDestination(logs)
  return {
    log,
    request: sourceRequest(application, { service, source, destination: first.destination, log }),
    async uncovered() {
      for (const { destination, repository } of opened) {
        const points = await repository.points({ source: source.name })
        const own = sourceRequest(application, { service, source, destination, log: repository.log(source.name) })
        const windows = await application.drivers.recoveryWindows(own, points)
        const reason = windows?.at(-1)?.endsBecause
        if (typeof reason === 'string')
          return `the log in ${destination.name} has a break behind its last point: ${reason}`
      }
      return undefined
    },
  }
}
