import { chmod, lchown, lstat, mkdir, open, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { RegainError } from '../../errors.ts'
import { ifAbsent } from '../../filesystem/system-error.ts'
import type { Point } from '../../model.ts'
import type { RecoveryPlan } from './plan.ts'
import { type Positions, positionsOf } from './positions.ts'
import { RECOVERY_FOLDER, recoveryScript } from './recovery-script.ts'
import { AUTO_CONF, missingConfiguration, recoveryConfiguration } from './recovery-settings.ts'
import { RUN_FOLDER } from './run-directory.ts'
import type { ServerUser } from './server-user.ts'

export interface PrepareRequest {
  /** The restored data directory. */
  directory: string
  positions: Positions
  plan: RecoveryPlan
  /** Program and arguments that fetch a file of the log: `… log fetch SERVICE/SOURCE`. */
  fetchCommand: readonly string[]
  /** Who will run the server; null: we ourselves. */
  user: ServerUser | null
}

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
  const { directory, positions, plan } = request
  for (const name of STALE) await rm(join(directory, name), { recursive: true, force: true })
  await moveTablespaces(directory, positions)
  for (const { name, text } of await missingConfiguration(directory, positions.settings))
    await writeDurably(join(directory, name), text)
  const archives = (positions.settings.archive_mode ?? 'off') !== 'off'
  const current = await readFile(join(directory, AUTO_CONF), 'utf8').catch(ifAbsent(''))
  await mkdir(join(directory, RECOVERY_FOLDER), { mode: 0o700 })
  await writeDurably(join(directory, RECOVERY_FOLDER, 'fetch'), recoveryScript(request.fetchCommand))
  await writeDurably(join(directory, AUTO_CONF), recoveryConfiguration(current, plan, archives))
  await writeDurably(join(directory, 'recovery.signal'), '')
  await chmod(directory, 0o700)
  if (request.user) await giveTo(request.user, directory, tablespacesDirectory(directory))
  await syncDirectory(join(directory, RECOVERY_FOLDER))
  await syncDirectory(directory)
  await syncDirectory(dirname(resolve(directory)))
}

/** Where a restored cluster's other tablespaces go. */
export function tablespacesDirectory(directory: string): string {
  return `${resolve(directory)}.tablespaces`
}

/** What a restore of the point into `directory` writes beside it. */
export function besideTarget(point: Point, directory: string): string[] {
  return hasTablespacesOutside(positionsOf(point)) ? [tablespacesDirectory(directory)] : []
}

/** Rejects with `target-not-empty` if something is where tablespaces would go. Before anything is written. */
export async function checkTablespaceTarget(directory: string, positions: Positions): Promise<void> {
  if (!hasTablespacesOutside(positions)) return
  const names = await readdir(tablespacesDirectory(directory)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new RegainError(
      'target-not-empty',
      `${tablespacesDirectory(directory)}, where tablespaces would go, cannot be used. Nothing was changed.`,
      { cause: error },
    )
  })
  if (names.length > 0)
    throw new RegainError(
      'target-not-empty',
      `${tablespacesDirectory(directory)}, where tablespaces would go, is not empty. Nothing was changed.`,
    )
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

export function hasTablespacesOutside(positions: Positions): boolean {
  return outside(positions).length > 0
}

/** Tablespaces of a folder of their own; those "in place" are part of the data directory. */
function outside(positions: Positions): Positions['tablespaces'] {
  return positions.tablespaces.filter(({ location }) => location.startsWith('/'))
}

/**
 * Their content was restored inside the data directory. It moves beside it, and both the link and tablespace_map say so:
 * from the map the server makes the links anew when recovery begins.
 */
async function moveTablespaces(directory: string, positions: Positions): Promise<void> {
  const map: string[] = []
  const parent = tablespacesDirectory(directory)
  for (const { oid } of outside(positions)) {
    await mkdir(parent, { recursive: true, mode: 0o700 })
    const link = join(resolve(directory), 'pg_tblspc', oid)
    const target = join(parent, oid)
    await rename(link, target)
    await symlink(target, link)
    map.push(`${oid} ${escapeMapPath(target)}\n`)
  }
  if (map.length === 0) return
  await writeDurably(join(directory, 'tablespace_map'), map.join(''))
  await syncDirectory(join(directory, 'pg_tblspc'))
  await syncDirectory(parent)
}

/** read_tablespace_map: a line ends the entry, a backslash quotes. */
function escapeMapPath(path: string): string {
  return path.replace(/[\\\n\r]/g, (character) => `\\${character}`)
}

async function giveTo(user: ServerUser, ...roots: string[]): Promise<void> {
  for (const root of roots) {
    const status = await lstat(root).catch(ifAbsent(null))
    if (!status) continue
    await lchown(root, user.uid, user.gid)
    if (status.isDirectory()) await giveTo(user, ...(await readdir(root)).map((name) => join(root, name)))
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
