import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { RegainError } from '../errors.ts'
import { tryLock } from './lock.ts'
import { DamagedState, openDatabase, transaction, translated } from './sqlite.ts'

/**
 * The state file: `state.db` in the state directory. It holds what is handy to know and nothing that cannot be lost:
 * deleted, it comes back empty, and the points are read from the repositories again.
 */
export interface StateFile {
  database: DatabaseSync
  path: string
  /** Set when an unusable state file was put aside: what happened, for people. */
  notice: string | null
}

export interface StateFileOptions {
  /** Made with mode 0700 if absent; narrowed to it if it belongs to this user and is wider. */
  directory: string
  now: number
  pid: number
  /** The caller holds the daemon's lock: no other daemon can be using the file. */
  isDaemon?: boolean
}

export const DAEMON_LOCK = 'daemon'
const REPAIR_LOCK = 'repair'
const BUSY_TIMEOUT_MS = 10_000

interface Migration {
  version: number
  sql: string
}

/** Opens the state file, made or migrated as needed. A damaged one, or one of a newer Regain, is put aside and replaced. */
export function openStateFile(options: StateFileOptions): StateFile {
  makePrivate(options.directory)
  const path = join(options.directory, 'state.db')
  try {
    return { database: openMigrated(path), path, notice: null }
  } catch (error) {
    if (!(error instanceof DamagedState)) throw error
    return replace(path, error, options)
  }
}

export function makePrivate(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    // An administrator may share the folder of another user on purpose; ours is never readable by others.
    const stats = statSync(directory)
    if (stats.uid === process.getuid?.() && (stats.mode & 0o077) !== 0) chmodSync(directory, 0o700)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new RegainError('storage-denied', `The state directory ${directory} cannot be used: ${message}.`, {
      hint: 'Give this user the right to write there, or name another directory with "state:" in the configuration.',
      cause: error,
    })
  }
}

function openMigrated(path: string): DatabaseSync {
  const database = openDatabase(path, BUSY_TIMEOUT_MS)
  try {
    translated(path, () => {
      const [check] = database.prepare('pragma quick_check(1)').all()
      const finding = String(check?.quick_check)
      if (finding !== 'ok') throw new DamagedState(finding.replaceAll('\n', ' '))
      database.exec('pragma journal_mode = wal')
      // Losing the last rows in a power cut is fine for a file that may be lost whole; damage is not, and WAL rules it out.
      database.exec('pragma synchronous = normal')
      transaction(database, () => migrate(database))
    })
  } catch (error) {
    database.close()
    throw error
  }
  return database
}

function migrate(database: DatabaseSync): void {
  const migrations = readMigrations()
  const newest = migrations.at(-1)?.version ?? 0
  const current = Number(database.prepare('pragma user_version').get()?.user_version)
  if (current > newest) {
    throw new DamagedState(`it was written by a newer Regain (state version ${current}, this one knows ${newest})`)
  }
  for (const { version, sql } of migrations) {
    if (version <= current) continue
    database.exec(sql)
    database.exec(`pragma user_version = ${version}`)
  }
}

function readMigrations(): Migration[] {
  const directory = join(import.meta.dirname, 'migrations')
  const names = readdirSync(directory).filter((name) => /^\d{4}-.+\.sql$/.test(name))
  return names.sort().map((name) => ({
    version: Number(name.slice(0, 4)),
    sql: readFileSync(join(directory, name), 'utf8'),
  }))
}

function replace(path: string, damage: DamagedState, options: StateFileOptions): StateFile {
  const holder = { pid: options.pid, purpose: 'replacing a damaged state file', since: options.now }
  const repair = tryLock(options.directory, REPAIR_LOCK, holder)
  if (repair.lock === null) {
    throw new RegainError('precondition-failed', `The state file ${path} is unusable and is just being replaced.`, {
      hint: 'Run the command again in a moment.',
    })
  }
  try {
    return replaceAlone(path, damage, options)
  } finally {
    repair.lock.release()
  }
}

function replaceAlone(path: string, damage: DamagedState, options: StateFileOptions): StateFile {
  const daemon = options.isDaemon
    ? null
    : tryLock(options.directory, DAEMON_LOCK, {
        pid: options.pid,
        purpose: 'replacing a damaged state file',
        since: options.now,
      })
  if (daemon !== null && daemon.lock === null) {
    const pid = daemon.holder === null ? '' : ` (process ${daemon.holder.pid})`
    throw new RegainError('precondition-failed', `The state file ${path} cannot be used: ${damage.message}.`, {
      hint: `Restart regain serve${pid}, which is using it and will replace it. Backups already made are not affected.`,
    })
  }
  try {
    const aside = moveAside(path, options.now)
    const notice =
      `The state file could not be used (${damage.message}). It was kept as ${aside}, and a new one was made. ` +
      'No backup is affected: points are known from the repositories.'
    return { database: openMigrated(path), path, notice }
  } finally {
    daemon?.lock?.release()
  }
}

/** Moves the database and its journals; returns the new name of the database. */
function moveAside(path: string, now: number): string {
  const stamp = new Date(now).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  let aside = `${path}.unusable-${stamp}`
  for (let i = 2; existsSync(aside); i++) aside = `${path}.unusable-${stamp}-${i}`
  for (const suffix of ['-wal', '-shm', '']) {
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix)
  }
  return aside
}
