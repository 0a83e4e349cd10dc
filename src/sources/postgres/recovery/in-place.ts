import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, readSync, renameSync, statSync } from 'node:fs'
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RegainError } from '../../../errors.ts'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import type { Positions } from '../backup/positions.ts'
import { signalProcess } from '../server/processes.ts'
import type { TablespacePlace } from './tablespaces.ts'

/** Written last, and only if all the rest of the cluster is there: without it no server starts. */
export const CONTROL_FILE = 'global/pg_control'
/** What it is called while something else takes its place: it goes with all that the point does not have. */
const DISABLED = `${CONTROL_FILE}.regain-replaced`

/**
 * Whether a point may take the place of what is in a data directory: of the same cluster and major version, and nobody at
 * work on it. `resumes`: a restore of the same source was cut short there, and may have taken the control file away. Rejects
 * with `precondition-failed`, having changed nothing; gives what a person should know before.
 */
export async function checkInPlace(
  directory: string,
  positions: Positions,
  places: readonly TablespacePlace[],
  resumes: boolean,
): Promise<string[]> {
  refuseRunning(directory, places)
  if (readdirSync(directory).every((name) => name === 'lost+found' || name.startsWith('.regain-'))) return []
  const found = systemIdentifier(directory)
  if (found === null && !resumes) {
    throw refusal(
      `${directory} holds files and no ${CONTROL_FILE}: it is not a data directory, or not a whole one.`,
      'Restore into an empty or new directory.',
    )
  }
  if (found !== null && found !== positions.systemId) {
    throw refusal(
      `${directory} holds another cluster (system identifier ${found}) than the point (${positions.systemId}).`,
      'Name the data directory of this very cluster, or an empty or new one.',
    )
  }
  const version = (await readFile(join(directory, 'PG_VERSION'), 'utf8').catch(ifAbsent(''))).trim()
  if (version !== '' && version !== String(positions.major)) {
    throw refusal(
      `${directory} is of PostgreSQL ${version}, and the point of ${positions.version}.`,
      'Restore into an empty or new directory.',
    )
  }
  return notesOn(directory, places)
}

async function notesOn(directory: string, places: readonly TablespacePlace[]): Promise<string[]> {
  const notes = [
    `log in ${directory}/pg_wal that the repository does not have yet is lost with the rest: copy that folder first if it may be needed`,
  ]
  const wal = await lstat(join(directory, 'pg_wal')).catch(ifAbsent(null))
  if ((await lstat(join(directory, 'standby.signal')).catch(ifAbsent(null))) !== null)
    notes.push('it is the directory of a standby, which becomes a server of its own, on a timeline of its own')
  if (wal?.isSymbolicLink()) notes.push('pg_wal is a link, and becomes a folder; what it leads to stays as it is')
  for (const oid of await newerTablespaces(directory, places))
    notes.push(`the tablespace ${oid} is newer than the point: its link goes, its folder stays as it is`)
  return notes
}

/** Oids of tablespaces that the data directory has and the point has not. */
export async function newerTablespaces(directory: string, places: readonly TablespacePlace[]): Promise<string[]> {
  const known = new Set(places.map(({ oid }) => oid))
  const oids = await readdir(join(directory, 'pg_tblspc')).catch(ifAbsent([]))
  return oids.filter((oid) => /^\d+$/.test(oid) && !known.has(oid))
}

/**
 * Makes that no server starts on the directory until the control file is written anew, durably, and that none did meanwhile: a
 * server makes its postmaster.pid before it reads the control file. Rejects, with all as it was, if one runs.
 */
export function disable(directory: string, places: readonly TablespacePlace[]): void {
  const from = join(directory, CONTROL_FILE)
  const to = join(directory, DISABLED)
  const isThere = statSync(from, { throwIfNoEntry: false }) !== undefined
  if (isThere) renameSync(from, to)
  try {
    refuseRunning(directory, places)
  } catch (error) {
    if (isThere) renameSync(to, from)
    throw error
  }
  if (!isThere) return
  const fd = openSync(join(directory, 'global'), 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** The first 8 bytes of the control file (ControlFileData, src/include/catalog/pg_control.h); null if there is none. */
function systemIdentifier(directory: string): string | null {
  for (const name of [CONTROL_FILE, DISABLED]) {
    let fd: number
    try {
      fd = openSync(join(directory, name), 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENOTDIR')
        continue
      throw error
    }
    try {
      const bytes = Buffer.alloc(8)
      return readSync(fd, bytes, 0, 8, 0) === 8 ? String(bytes.readBigUInt64LE()) : null
    } finally {
      closeSync(fd)
    }
  }
  return null
}

function refuseRunning(directory: string, places: readonly TablespacePlace[]): void {
  const pid = runningOn(directory)
  if (pid !== null)
    throw refusal(
      `A PostgreSQL server is at work on ${directory} (process ${pid}).`,
      `Stop it first: pg_ctl -D ${directory} stop, or the service that runs it.`,
    )
  for (const place of places) {
    const user = serverProcesses().find((pid) => linksTo(pid, place))
    if (user === undefined) continue
    throw refusal(
      `A PostgreSQL server (process ${user}) uses ${place.directory}, where the tablespace ${place.oid} would be written over.`,
      `If ${directory} is a copy that still leads to its original's tablespaces, name other folders: --tablespace ${place.oid}=FOLDER.`,
    )
  }
}

/**
 * A process that works on the data directory: the one that postmaster.pid names, or any server process whose working
 * directory it is, which all of them have, those included that outlived a killed postmaster.
 */
function runningOn(directory: string): number | null {
  const own = statSync(directory, { throwIfNoEntry: false })
  if (own === undefined) return null
  const named = namedProcess(directory)
  // A number that was given to somebody else since is told by where that one works.
  if (named !== null && signals(named) && worksIn(named, own) !== false) return named
  return serverProcesses().find((pid) => worksIn(pid, own) === true) ?? null
}

/** Processes of PostgreSQL's servers on this machine; none where there is no /proc. */
function serverProcesses(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && isServerProcess(name))
      .map(Number)
  } catch {
    return []
  }
}

/** Whether the cluster that a server works on, whichever it is, has the same folder for the tablespace. */
function linksTo(pid: number, { oid, directory }: TablespacePlace): boolean {
  try {
    const theirs = statSync(`/proc/${pid}/cwd/pg_tblspc/${oid}`)
    const ours = statSync(directory)
    return theirs.dev === ours.dev && theirs.ino === ours.ino
  } catch {
    // There is no such folder, or none that we may look at.
    return false
  }
}

/** The first line of postmaster.pid; negative for a server in single-user mode. */
function namedProcess(directory: string): number | null {
  try {
    const pid = Math.abs(Number.parseInt(readFileSync(join(directory, 'postmaster.pid'), 'utf8'), 10))
    return pid > 0 ? pid : null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

function signals(pid: number): boolean {
  try {
    return signalProcess(pid, 0)
  } catch {
    // It is somebody else's: it lives.
    return true
  }
}

/** Null: it can't be told. */
function worksIn(pid: number, own: { dev: number; ino: number }): boolean | null {
  try {
    const cwd = statSync(`/proc/${pid}/cwd`)
    return cwd.dev === own.dev && cwd.ino === own.ino
  } catch {
    return null
  }
}

function isServerProcess(pid: string): boolean {
  try {
    return /^(postgres|postmaster)$/.test(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())
  } catch {
    // It ended while we looked.
    return false
  }
}

function refusal(message: string, hint: string): RegainError {
  return new RegainError('precondition-failed', `${message} Nothing was changed.`, { hint })
}
