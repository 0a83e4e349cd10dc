import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import type { LogStore, SourceOptions } from '../../contract.ts'
import { formatLsn } from '../protocol/lsn.ts'
import type { PostgresBinaries } from '../server/binaries.ts'
import { writeDurably } from '../server/data-directory.ts'
import { acceptsConnections, type PostgresServer, serverFailure, startServer } from '../server/server.ts'
import type { ServerUser } from '../server/server-user.ts'
import { startFeeder } from './feeder.ts'
import type { RecoveryPlan } from './plan.ts'
import type { RecoveryGuard } from './recovery-guard.ts'
import { type RecoveryReport, readRecoveryLog } from './recovery-report.ts'
import { FEEDER_FILE, RECOVERY_FOLDER } from './recovery-script.ts'
import { AUTO_CONF, afterRecovery } from './recovery-settings.ts'

export interface RecoveryRequest {
  binaries: PostgresBinaries
  /** Prepared by prepareDataDirectory. */
  directory: string
  plan: RecoveryPlan
  store: LogStore
  guard: RecoveryGuard | null
  user: ServerUser | null
  options: SourceOptions
  /** Settings and wrapper of the server, as startServer takes them. */
  settings?: Record<string, string>
  wrapper?: readonly string[]
}

const LOOK_MS = 25

/**
 * Starts a server on a prepared data directory, feeds it the log from this process, and waits until it has reached its
 * moment and promoted itself; recovery takes as long as there is log. Then the directory is an ordinary cluster's again.
 * Rejects with `moment-unreachable` if the log did not hold the moment; nothing is left running then.
 */
export async function recover(request: RecoveryRequest): Promise<{ server: PostgresServer; report: RecoveryReport }> {
  const { directory, options, user } = request
  let bytesDone = 0
  const fed = (bytes: number): void => {
    bytesDone += bytes
    options.progress({ phase: 'recovery', bytesDone })
  }
  const feeder = await startFeeder({ store: request.store, guard: request.guard, user, fed })
  let server: PostgresServer | null = null
  try {
    await writeDurably(join(directory, RECOVERY_FOLDER, FEEDER_FILE), `${feeder.directory}\n`, user)
    server = await startServer({
      binaries: request.binaries,
      directory,
      signal: options.signal,
      until: 'process',
      inside: true,
      settings: request.settings ?? {},
      wrapper: request.wrapper ?? [],
    })
    await untilRecovered(server, feeder, request)
    const report = readRecoveryLog(await server.log())
    await clear(directory, user)
    return { server, report }
  } catch (error) {
    await server?.stop('immediate')
    throw error
  } finally {
    await feeder.close()
  }
}

/** The server takes no connections while it recovers (hot_standby is off), so that it does means it is done. */
async function untilRecovered(
  server: PostgresServer,
  feeder: { error(): Error | null },
  request: RecoveryRequest,
): Promise<void> {
  for (;;) {
    throwIfInterrupted(request.options.signal)
    if (server.ended()) throw feeder.error() ?? (await failure(server, request.plan))
    if (await acceptsConnections(server)) return
    await delay(LOOK_MS)
  }
}

async function failure(server: PostgresServer, plan: RecoveryPlan): Promise<RegainError> {
  const report = readRecoveryLog(await server.log())
  if (!report.targetMissed) return serverFailure(server, 'The restored server ended during recovery.')
  const reached = report.lastTransaction ?? `the point itself`
  return new RegainError(
    'moment-unreachable',
    `Recovery came to the end of the log without meeting the moment that was asked for. It got to ${reached}${report.lastRecord === null ? '' : ` (${report.lastRecord})`}; the log ends at ${formatLsn(plan.end)}.`,
  )
}

/** Takes out what steered the recovery: the directory may be moved, copied and started like any other. */
async function clear(directory: string, user: ServerUser | null): Promise<void> {
  const path = join(directory, AUTO_CONF)
  await writeDurably(path, afterRecovery(await readFile(path, 'utf8')), user)
  await rm(join(directory, RECOVERY_FOLDER), { recursive: true, force: true })
}
