import { resolve } from 'node:path'
import { RegainError } from '../errors.ts'
import type { Application } from './context.ts'
import { withSourceLog } from './source-log.ts'
import { destinationsOf, selectTarget } from './targets.ts'

/** For a server's archive_command: durable at every destination when it resolves. False: the file is not needed. */
export async function pushLogFile(
  application: Application,
  request: { target: string; path: string },
): Promise<boolean> {
  const { config, drivers } = application
  const { service, sources, isOneSource } = selectTarget(config, request.target)
  const [source] = sources
  if (!isOneSource || source === undefined) throw new RegainError('usage', 'Name a source: SERVICE/SOURCE.')
  return withSourceLog(application, service, source, destinationsOf(config, service), ({ log }) =>
    drivers.pushLog(source, { store: log, path: resolve(request.path), workingDirectory: resolve() }),
  )
}
