import { resolve } from 'node:path'
import { RegainError } from '../errors.ts'
import type { Application, Reporting } from './context.ts'
import { withRepository } from './repositories.ts'
import { destinationsOf, selectTarget } from './targets.ts'

export interface FetchLogRequest {
  /** SERVICE/SOURCE. */
  target: string
  /** The service's first if left out. */
  destination?: string
  /** File of the log that is asked for. */
  name: string
  /** File to make. */
  to: string
  /** Folder for what will be asked for next. */
  spool?: string
  /** File that says which recovery it is for. */
  guard?: string
}

/** For a recovering server's restore_command. False if the log does not hold the file, which ends its recovery. */
export async function fetchLogFile(
  application: Application,
  request: FetchLogRequest,
  reporting: Reporting,
): Promise<boolean> {
  const { config, drivers } = application
  const { service, sources, isOneSource } = selectTarget(config, request.target)
  const [source] = sources
  if (!isOneSource || source === undefined) throw new RegainError('usage', 'Name a source: SERVICE/SOURCE.')
  const [destination] = destinationsOf(config, service, request.destination)
  return withRepository(application, service, destination!, (repository) =>
    drivers.fetchLog(source, {
      store: repository.log(source.name),
      name: request.name,
      target: resolve(request.to),
      spool: request.spool === undefined ? null : resolve(request.spool),
      guard: request.guard === undefined ? null : resolve(request.guard),
      signal: reporting.signal,
    }),
  )
}
