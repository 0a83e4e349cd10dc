import { isRegainError, RegainError } from '../../../errors.ts'
import type { Entry, Point } from '../../../model.ts'
import type {
  LogStore,
  MaterializeOptions,
  PointReader,
  RestoreSummary,
  RestoreTarget,
  SourceOptions,
} from '../../contract.ts'
import { checkMachine } from '../backup/machine.ts'
import { positionsOf } from '../backup/positions.ts'
import { findPostgres, type PostgresBinaries } from '../server/binaries.ts'
import { prepareDataDirectory } from '../server/data-directory.ts'
import type { BinarySearch } from '../server/programs.ts'
import { restoreUser, serverUser } from '../server/server-user.ts'
import { CONTROL_FILE, checkInPlace, disable, newerTablespaces } from './in-place.ts'
import { type GuardedRecovery, TablespaceGuard } from './new-tablespaces.ts'
import { leaveOutOthers, tellLeftOut } from './only-databases.ts'
import type { RecoveryPlan } from './plan.ts'
import { guardRecovery } from './recovery-guard.ts'
import { planRecovery } from './recovery-log.ts'
import { recover } from './start-recovery.ts'
import {
  clearPlaces,
  foldersBeside,
  makePlaces,
  requireEmptyPlaces,
  type TablespacePlace,
  tablespacePlaces,
} from './tablespaces.ts'

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
  const otherMachine = checkMachine(positions, process.arch, target.start || target.inPlace !== undefined)
  if (otherMachine !== null) options.warn(otherMachine)
  const binaries = target.start ? await findPostgres(positions.major, context.search) : null
  const { inPlace } = target
  const request = { directory, chosen: target.tablespaces ?? {}, inPlace: inPlace !== undefined }
  const places = await tablespacePlaces(positions, request)
  if (inPlace === undefined) await requireEmptyPlaces(directory, places)
  else await checkInPlace(directory, positions, places, inPlace.resumes)

  const tablespaces = new TablespaceGuard({ point: reader.point, plan }, context.store, options.signal)
  if (inPlace !== undefined && (await newerTablespaces(directory, places)).length > 0) await tablespaces.admitAll()
  const leftOut = target.onlyDatabases
    ? await leaveOutOthers(reader, positions.major, target.onlyDatabases, options.signal)
    : null
  const hollow = leftOut ? { hollow: leftOut.oids } : {}
  await makePlaces(directory, places)
  try {
    const changing = (): void => {
      disable(directory, places)
      inPlace?.changing()
    }
    const summary = await layOut(reader, directory, places, {
      ...options,
      ...(inPlace ? { over: { changing } } : {}),
      ...(leftOut ? { hollow: leftOut.hollow } : {}),
    })
    if (leftOut && leftOut.databases.length > 0) options.warn(tellLeftOut(leftOut.databases))
    const left = leftOut ? { leftOut: leftOut.databases } : {}
    return {
      ...summary,
      ...left,
      ...(await bringUp({ point: reader.point, plan, ...hollow }, places, binaries, target, options, context)),
    }
  } catch (error) {
    if (inPlace === undefined) await putAwayTablespaces(places, target, options, error)
    throw error
  }
}

/** The files of a point, whole: rejects with `repository-damaged` if any is lost. */
export async function layOut(
  reader: PointReader,
  directory: string,
  places: readonly TablespacePlace[],
  options: SourceOptions & Pick<MaterializeOptions, 'durable' | 'over' | 'hollow'>,
): Promise<RestoreSummary> {
  // Without its control file no server starts, so a restore that was killed can't be taken for a whole one.
  const last = (entry: Entry) => entry.path === CONTROL_FILE
  const summary = await reader.materialize(directory, { ...options, places, last, ownership: false })
  refuseIncomplete(summary, directory)
  return summary
}

/** What a restore of the point into `directory` writes beside it, and what is done to what is there. Rejects as the restore would. */
export async function planTarget(
  point: Point,
  {
    directory,
    tablespaces,
    resumes,
  }: { directory: string; tablespaces: Record<string, string>; resumes: boolean | null },
): Promise<{ beside: string[]; steps: string[]; notes: string[] }> {
  const positions = positionsOf(point)
  const inPlace = resumes !== null
  const places = await tablespacePlaces(positions, { directory, chosen: tablespaces, inPlace })
  if (!inPlace) {
    const beside = foldersBeside(directory, places)
    return { beside, steps: beside.map((path) => `put tablespaces into ${path}`), notes: [] }
  }
  const notes = await checkInPlace(directory, positions, places, resumes)
  const steps = places.map((place) => `write over the tablespace ${place.oid} in ${place.directory}`)
  return { beside: [], steps, notes }
}

/** From the files of the point to a directory that recovers by itself, or with binaries to a server that has. */
async function bringUp(
  recovery: GuardedRecovery & { point: Point; plan: RecoveryPlan },
  places: readonly TablespacePlace[],
  binaries: PostgresBinaries | null,
  { directory, inPlace, onlyDatabases }: RestoreTarget,
  options: SourceOptions,
  context: RestoreContext,
): Promise<Pick<RestoreSummary, 'reached' | 'connection'>> {
  const user = await (inPlace ? serverUser(directory) : restoreUser(directory))
  const { fetchCommand, store } = context
  const positions = positionsOf(recovery.point)
  await prepareDataDirectory({ ...recovery, directory, places, fetchCommand, user, inPlace: inPlace !== undefined })
  if (!inPlace && (positions.settings.archive_mode ?? 'off') !== 'off') {
    options.warn(
      'archive_mode is off in the restored copy, so that it does not write to the archive of its original: see postgresql.auto.conf.',
    )
  }
  if (!binaries) return {}

  const guard = guardRecovery(recovery, directory, store, options.signal)
  const { server, report } = await recover({ binaries, directory, plan: recovery.plan, store, guard, user, options })
  server.release()
  if (report.timeline !== null) {
    options.warn(
      `The restored server writes timeline ${report.timeline} from now on. If it takes its original's place, point this source at it and the log goes on; a mere copy must not be backed up as the same source.`,
    )
  }
  // One without its content takes no connections.
  const [only] = onlyDatabases ?? []
  const database = only === undefined || onlyDatabases?.includes(context.database) ? context.database : only
  return {
    // Without a transaction in the log, the state is that of the point's own end.
    reached: report.lastTransaction ?? positions.stopTime,
    connection: server.url(context.user, database),
  }
}

/** They lie beside the target, where whoever takes a failed restore back does not look. Nothing was there before. */
async function putAwayTablespaces(
  places: readonly TablespacePlace[],
  target: RestoreTarget,
  options: SourceOptions,
  error: unknown,
): Promise<void> {
  // What could be read of a damaged repository may be all there is; and what is somebody else's is not ours to remove.
  const isKept = isRegainError(error, 'repository-damaged') || isRegainError(error, 'target-not-empty')
  if (!target.start && !isKept) {
    await clearPlaces(target.directory, places)
    return
  }
  for (const folder of foldersBeside(target.directory, places))
    options.warn(`${folder} holds the tablespaces of the unfinished restore: remove it with that.`)
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
