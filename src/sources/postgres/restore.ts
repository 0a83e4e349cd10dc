import { rm } from 'node:fs/promises'
import { RegainError } from '../../errors.ts'
import type { Entry } from '../../model.ts'
import type { LogStore, PointReader, RestoreSummary, RestoreTarget, SourceOptions } from '../contract.ts'
import { type BinarySearch, findPostgres, type PostgresBinaries } from './binaries.ts'
import {
  checkTablespaceTarget,
  hasTablespacesOutside,
  prepareDataDirectory,
  tablespacesDirectory,
} from './data-directory.ts'
import { refuseNewTablespaces } from './new-tablespaces.ts'
import type { RecoveryPlan } from './plan.ts'
import { type Positions, positionsOf } from './positions.ts'
import { planRecovery } from './recovery-log.ts'
import { restoreUser } from './server-user.ts'
import { recover } from './start-recovery.ts'

/** Written last, and only if all the rest of the cluster is there. */
const CONTROL_FILE = 'global/pg_control'

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
  await refuseNewTablespaces(reader.point, plan, context.store, options.signal)

  const summary = await layOut(reader, directory, options)
  try {
    return { ...summary, ...(await bringUp(positions, plan, binaries, target, options, context)) }
  } catch (error) {
    await putAwayTablespaces(positions, target, options)
    throw error
  }
}

/** The files of a point, whole: rejects with `repository-damaged` if any is lost. */
export async function layOut(
  reader: PointReader,
  directory: string,
  options: SourceOptions & { durable?: boolean },
): Promise<RestoreSummary> {
  // Without its control file no server starts, so a restore that was killed can't be taken for a whole one.
  const last = (entry: Entry) => entry.path === CONTROL_FILE
  const summary = await reader.materialize(directory, { ...options, last, ownership: false })
  refuseIncomplete(summary, directory)
  return summary
}

/** From the files of the point to a directory that recovers by itself, or with binaries to a server that has. */
async function bringUp(
  positions: Positions,
  plan: RecoveryPlan,
  binaries: PostgresBinaries | null,
  { directory }: RestoreTarget,
  options: SourceOptions,
  context: RestoreContext,
): Promise<Pick<RestoreSummary, 'reached' | 'connection'>> {
  const user = await restoreUser(directory)
  await prepareDataDirectory({ directory, positions, plan, fetchCommand: context.fetchCommand, user })
  if ((positions.settings.archive_mode ?? 'off') !== 'off') {
    options.warn(
      'archive_mode is off in the restored copy, so that it does not write to the archive of its original: see postgresql.auto.conf.',
    )
  }
  if (!binaries) return {}

  const { server, report } = await recover({ binaries, directory, plan, store: context.store, user, options })
  server.release()
  if (report.timeline !== null) {
    options.warn(
      `The restored server writes timeline ${report.timeline} from now on. If it takes its original's place, point this source at it and the log goes on; a mere copy must not be backed up as the same source.`,
    )
  }
  return {
    // Without a transaction in the log, the state is that of the point's own end.
    reached: report.lastTransaction ?? positions.stopTime,
    connection: server.url(context.user, context.database),
  }
}

/** They lie beside the target, where whoever takes a failed restore back does not look. Nothing was there before. */
async function putAwayTablespaces(positions: Positions, target: RestoreTarget, options: SourceOptions): Promise<void> {
  if (!hasTablespacesOutside(positions)) return
  const folder = tablespacesDirectory(target.directory)
  if (target.start) options.warn(`${folder} holds the tablespaces of the unfinished restore: remove it with that.`)
  else await rm(folder, { recursive: true, force: true })
}

/** A cluster that lacks a file must not run: it would look healthy until somebody asks for what is gone. */
function refuseIncomplete(summary: RestoreSummary, directory: string): void {
  const lost = summary.missed.filter((missed) => missed.reason === 'damaged')
  const [first] = lost
  if (!first) return
  throw new RegainError(
    'repository-damaged',
    `${lost.length} files of this point are lost, ${first.path} among them (${first.detail}). What could be read is in ${directory}, without its control file, so that no server starts on it.`,
    { hint: 'Restore another point: regain points. Which are hurt says: regain verify --read-data' },
  )
}
