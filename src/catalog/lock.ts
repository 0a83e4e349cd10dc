import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { RegainError } from '../errors.ts'
import { DamagedState, isBusy, openDatabase, translated } from './sqlite.ts'

/**
 * A lock between processes of one machine that can never be left behind: the kernel ends it with the process.
 *
 * Each lock is a small SQLite file of its own. Holding it is an open write transaction (SQLite's RESERVED lock, a lock
 * of the operating system on the file), under which others can still read the row that says who holds it. The row alone
 * means nothing: it stays when the holder is gone. Nothing has to guess from process ids whether a holder still lives.
 */
export interface Lock {
  readonly name: string
  /** Safe to repeat. */
  release(): void
}

export interface LockHolder {
  pid: number
  /** What the holder does, for people: 'regain backup shop/db'. */
  purpose: string
  /** Milliseconds since the epoch. */
  since: number
}

export type LockOutcome = { lock: Lock; holder: null } | { lock: null; holder: LockHolder | null }

/** How long a reader or the commit of the holder's row may keep us waiting; both take a moment. */
const MOMENT_MS = 2_000

/** Takes the lock if it is free; otherwise says who holds it. Never waits for the holder. */
export function tryLock(directory: string, name: string, holder: LockHolder): LockOutcome {
  const path = join(directory, `${name}.lock`)
  const database = openDatabase(path, MOMENT_MS)
  try {
    return translated(path, () => take(database, name, holder))
  } catch (error) {
    database.close()
    if (!(error instanceof DamagedState)) throw error
    throw new RegainError('precondition-failed', `The lock file ${path} is damaged: ${error.message}.`, {
      hint: 'Make sure that no regain is running, then delete the file. It holds nothing else.',
      cause: error,
    })
  }
}

function take(database: DatabaseSync, name: string, holder: LockHolder): LockOutcome {
  if (!begin(database)) return refused(database)
  database.exec('create table if not exists holder (one integer primary key, pid integer, purpose text, since integer)')
  database
    .prepare('insert or replace into holder (one, pid, purpose, since) values (1, ?, ?, ?)')
    .run(holder.pid, holder.purpose, holder.since)
  database.exec('commit')
  // Between the commit and this line another process may have come first; then it has written its own row.
  if (!begin(database)) return refused(database)

  let held = true
  const release = () => {
    if (!held) return
    held = false
    database.exec('rollback')
    database.close()
  }
  return { lock: { name, release }, holder: null }
}

function begin(database: DatabaseSync): boolean {
  database.exec('pragma busy_timeout = 0')
  try {
    database.exec('begin immediate')
    return true
  } catch (error) {
    if (isBusy(error)) return false
    throw error
  } finally {
    database.exec(`pragma busy_timeout = ${MOMENT_MS}`)
  }
}

function refused(database: DatabaseSync): LockOutcome {
  const holder = readHolder(database)
  database.close()
  return { lock: null, holder }
}

/** Null while the very first holder has not said its name yet. */
function readHolder(database: DatabaseSync): LockHolder | null {
  const known = database.prepare("select 1 from sqlite_master where name = 'holder'").get()
  if (known === undefined) return null
  const row = database.prepare('select pid, purpose, since from holder').get()
  if (row === undefined) return null
  return { pid: Number(row.pid), purpose: String(row.purpose), since: Number(row.since) }
}
