import { RegainError } from '../../errors.ts'
import type { LogStore, PointReader, RestoreSummary, RestoreTarget, SourceOptions } from '../contract.ts'
import { type BinarySearch, findPostgres } from './binaries.ts'
import { checkTablespaceTarget, prepareDataDirectory } from './data-directory.ts'
import { positionsOf } from './positions.ts'
import { planRecovery } from './recovery-log.ts'
import { restoreUser } from './server-user.ts'
import { recover } from './start-recovery.ts'

export interface RestoreContext {
  store: LogStore
  /** Program and arguments that fetch a file of the log, for servers that are started by hand. */
  fetchCommand: readonly string[]
  search: BinarySearch
  /** For the connection URL that is reported. */
  user: string
  database: string
}

/**
 * Brings a point back as a data directory that recovers to the moment asked for, and with `start` carries that out. What
 * cannot be reached is refused before anything is written.
 */
export async function restorePostgres(
  reader: PointReader,
  target: RestoreTarget,
  options: SourceOptions,
  context: RestoreContext,
): Promise<RestoreSummary> {
  const { directory } = target
  if (target.path !== null)
    throw new RegainError('usage', 'A physical backup of PostgreSQL is restored whole: --path cannot select from it.')
  const positions = positionsOf(reader.point)
  const plan = await planRecovery([reader.point], context.store, target.at, options.signal)
  for (const note of plan.notes) options.warn(note)
  const binaries = target.start ? await findPostgres(positions.major, context.search) : null
  await checkTablespaceTarget(directory, positions)

  const summary = await reader.materialize(directory, { ...options, ownership: false })
  const user = await restoreUser(directory)
  await prepareDataDirectory({ directory, positions, plan, fetchCommand: context.fetchCommand, user })
  if ((positions.settings.archive_mode ?? 'off') !== 'off') {
    options.warn(
      'archive_mode is off in the restored copy, so that it does not write to the archive of its original: see postgresql.auto.conf.',
    )
  }
  if (!binaries) return summary

  const { server, report } = await recover({ binaries, directory, plan, store: context.store, user, options })
  server.release()
  if (report.timeline !== null) {
    options.warn(
      `The restored server writes timeline ${report.timeline} from now on. If it takes its original's place, point this source at it and the log goes on; a mere copy must not be backed up as the same source.`,
    )
  }
  return {
    ...summary,
    // Without a transaction in the log, the state is that of the point's own end.
    reached: report.lastTransaction ?? positions.stopTime,
    connection: server.url(context.user, context.database),
  }
}
