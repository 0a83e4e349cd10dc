import { DatabaseSync } from 'node:sqlite'
import { RegainError } from '../errors.ts'

/** Result codes of SQLite (sqlite.org/rescode.html); the low byte of an extended code is the primary one. */
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_READONLY = 8
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

/** The file is not a usable SQLite database. Whoever opens it next replaces it. */
export class DamagedState extends RegainError {
  constructor(reason: string, options: { cause?: unknown } = {}) {
    super('storage-unavailable', reason, {
      hint: 'The next command that opens the state file replaces it. Backups already made are not affected.',
      ...options,
    })
  }
}

export function openDatabase(path: string, busyTimeoutMs: number): DatabaseSync {
  return translated(path, () => new DatabaseSync(path, { timeout: busyTimeoutMs }))
}

/** Runs `work`, turning SQLite's errors into DamagedState or a RegainError; others pass through. */
export function translated<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw translate(path, error)
  }
}

/** `work` in one immediate transaction: it sees no other writer's half, and all of it counts or nothing. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('begin immediate')
  try {
    const result = work()
    database.exec('commit')
    return result
  } catch (error) {
    // SQLite ends the transaction by itself on some errors (full disk); then there is nothing to roll back.
    if (database.isTransaction) database.exec('rollback')
    throw error
  }
}

export function isBusy(error: unknown): boolean {
  const code = primaryCode(error)
  return code === SQLITE_BUSY || code === SQLITE_LOCKED
}

function translate(path: string, error: unknown): unknown {
  const message = error instanceof Error ? error.message : String(error)
  switch (primaryCode(error)) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return new DamagedState(message, { cause: error })
    case SQLITE_FULL:
      return new RegainError('storage-full', `The state file ${path} cannot grow: the disk is full.`, {
        hint: 'Free space there. Backups already made are not affected.',
        cause: error,
      })
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return new RegainError('storage-denied', `The state file ${path} cannot be opened for writing: ${message}.`, {
        hint: 'Give this user the right to write the state directory, or name another one with "state:".',
        cause: error,
      })
    case SQLITE_IOERR:
      return new RegainError('storage-unavailable', `The state file ${path} cannot be read or written: ${message}.`, {
        hint: 'Check the disk of the state directory. Backups already made are not affected.',
        cause: error,
      })
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return new RegainError(
        'storage-unavailable',
        `The state file ${path} is in use by another process for too long.`,
        {
          hint: 'Run the command again in a moment.',
          cause: error,
        },
      )
    default:
      return error
  }
}

function primaryCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null
  return error.errcode & 0xff
}
