import { chmod, lchown, lstat, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { syncFolder } from '../../../filesystem/durable.ts'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import type { Point } from '../../../model.ts'
import { positionsOf } from '../backup/positions.ts'
import type { GuardedRecovery } from '../recovery/new-tablespaces.ts'
import type { RecoveryPlan } from '../recovery/plan.ts'
import { GUARD_FILE, RECOVERY_FOLDER, recoveryScript } from '../recovery/recovery-script.ts'
import { AUTO_CONF, missingConfiguration, recoveryConfiguration } from '../recovery/recovery-settings.ts'
import { contains, linkPlaces, type TablespacePlace, tablespaceMap } from '../recovery/tablespaces.ts'
import { RUN_FOLDER } from './run-directory.ts'
import type { ServerUser } from './server-user.ts'

export interface PrepareRequest {
  /** The restored data directory. */
  directory: string
  point: Point
  plan: RecoveryPlan
  /** Program and arguments that fetch a file of the log: `… log fetch SERVICE/SOURCE`. */
  fetchCommand: readonly string[]
  /** Where its tablespaces have been laid out. */
  places: readonly TablespacePlace[]
  /** As of GuardedRecovery. */
  hollow?: readonly number[]
  /** Who will run the server; null: we ourselves. */
  user: ServerUser | null
  /** It takes its original's place, and so archives as that did. */
  inPlace?: boolean
}

const GIVEN_AT_ONCE = 32

/**
 * Of a running or recovering server, and of a server that was itself restored and started by hand: must not be taken
 * for the copy's.
 */
const STALE = ['postmaster.pid', 'postmaster.opts', 'standby.signal', 'recovery.signal', RECOVERY_FOLDER, RUN_FOLDER]

/**
 * Makes a restored data directory ready to recover: tablespaces beside it, recovery.signal, settings and the script that
 * fetches the log, owner and mode. Everything is durable when it resolves. Never connects to anything.
 */
export async function prepareDataDirectory(request: PrepareRequest): Promise<void> {
  const { directory, point, plan } = request
  const positions = positionsOf(point)
  for (const name of STALE) await rm(join(directory, name), { recursive: true, force: true })
  await linkPlaces(directory, request.places)
  if (request.places.length > 0) await writeDurably(join(directory, 'tablespace_map'), tablespaceMap(request.places))
  for (const { name, text } of await missingConfiguration(directory, positions.settings))
    await writeDurably(join(directory, name), text)
  const archives = !request.inPlace && (positions.settings.archive_mode ?? 'off') !== 'off'
  const current = await readFile(join(directory, AUTO_CONF), 'utf8').catch(ifAbsent(''))
  await mkdir(join(directory, RECOVERY_FOLDER), { mode: 0o700 })
  const guarded: GuardedRecovery = {
    point: { id: point.id, positions: point.positions },
    plan: { timeline: plan.timeline, target: plan.target },
    ...(request.hollow === undefined ? {} : { hollow: request.hollow }),
  }
  await writeDurably(join(directory, RECOVERY_FOLDER, GUARD_FILE), JSON.stringify(guarded))
  await writeDurably(join(directory, RECOVERY_FOLDER, 'fetch'), recoveryScript(request.fetchCommand))
  await writeDurably(join(directory, AUTO_CONF), recoveryConfiguration(current, plan, archives))
  await writeDurably(join(directory, 'recovery.signal'), '')
  // A server starts on a directory that its group may read (initdb -g), and on none that is open any further.
  const isGroups = request.inPlace && ((await stat(directory)).mode & 0o050) === 0o050
  await chmod(directory, isGroups ? 0o750 : 0o700)
  if (request.user) await giveAll(request.user, request)
  await syncFolder(join(directory, RECOVERY_FOLDER))
  await syncFolder(directory)
  await syncFolder(dirname(resolve(directory)))
}

/** Writes a file whole or not at all, durably, readable by its owner alone. */
export async function writeDurably(path: string, text: string, owner: ServerUser | null = null): Promise<void> {
  const part = `${path}.part`
  await rm(part, { force: true })
  const file = await open(part, 'wx', 0o600)
  try {
    await file.writeFile(text)
    if (owner) await file.chown(owner.uid, owner.gid)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(part, path)
}

/** At the top of a tablespace's folder only what is this version's: others may share it. */
async function giveAll(user: ServerUser, { directory, places, point }: PrepareRequest): Promise<void> {
  const { major } = positionsOf(point)
  await giveTo(user, [directory])
  for (const place of places) {
    if (contains(`${resolve(directory)}.tablespaces`, place.directory))
      await lchown(`${resolve(directory)}.tablespaces`, user.uid, user.gid)
    await lchown(place.directory, user.uid, user.gid)
    const ours = (await readdir(place.directory)).filter((name) => name.startsWith(`PG_${major}_`))
    await giveTo(user, inside(place.directory, ours))
  }
}

/** What is not there is left out. Some at a time: a cluster of 100,000 relations has several times that many files in one folder. */
async function giveTo(user: ServerUser, paths: readonly string[]): Promise<void> {
  for (let at = 0; at < paths.length; at += GIVEN_AT_ONCE) {
    const given = paths.slice(at, at + GIVEN_AT_ONCE).map(async (path) => {
      const status = await lstat(path).catch(ifAbsent(null))
      if (status) await lchown(path, user.uid, user.gid)
      return status?.isDirectory() ? path : null
    })
    for (const folder of await Promise.all(given))
      if (folder !== null) await giveTo(user, inside(folder, await readdir(folder)))
  }
}

function inside(folder: string, names: readonly string[]): string[] {
  return names.map((name) => join(folder, name))
}
