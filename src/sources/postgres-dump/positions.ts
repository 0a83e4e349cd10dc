import { RegainError } from '../../errors.ts'
import type { Point } from '../../model.ts'

/** What a point of dumps records beside its files; in the repository as JSON. */
export interface DumpPositions {
  /** Of the server: '15.18'. */
  version: string
  major: number
  /** Of pg_dump, whose archives need a pg_restore at least as new. */
  programs: string
  standby: boolean
  /** RFC 3339 UTC, by the server's clock. */
  startTime: string
  /** False: the role was not allowed to read the passwords of roles. */
  rolePasswords: boolean
  databases: DumpedDatabase[]
}

export interface DumpedDatabase {
  name: string
  /** 'UTF8'. */
  encoding: string
  /** RFC 3339 UTC: everything of this database is of this moment. */
  snapshotTime: string
  /** Path of the archive with all definitions, and all rows but those of `tables`. */
  archive: string
  /** Large tables, whose rows have archives of their own. */
  tables: { table: string; archive: string }[]
  bytes: number
  /** Tables whose definitions are there and whose rows were left out on purpose; up to 1,000 of them. */
  leftOut: string[]
  leftOutCount: number
}

export const GLOBALS = 'globals.sql'

/** Throws `repository-damaged` if the point's positions are not what this driver makes. */
export function dumpPositionsOf(point: Pick<Point, 'id' | 'positions'>): DumpPositions {
  const record = point.positions as unknown as DumpPositions
  const isSound =
    isText(record.version) &&
    Number.isInteger(record.major) &&
    isText(record.programs) &&
    isText(record.startTime) &&
    Array.isArray(record.databases) &&
    record.databases.every(
      (database) =>
        isText(database?.name) &&
        isText(database.archive) &&
        isText(database.snapshotTime) &&
        Array.isArray(database.leftOut) &&
        Array.isArray(database.tables) &&
        database.tables.every(({ table, archive }) => isText(table) && isText(archive)),
    )
  if (isSound) return record
  throw new RegainError(
    'repository-damaged',
    `The recovery point ${point.id} does not say what it holds in a form that points of dumps have.`,
  )
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

/** A folder's name for a database: what is no letter, digit, `_` or `-`, nor a dot inside, is %XX of its bytes in UTF-8. */
export function folderOf(database: string): string {
  const text = [...Buffer.from(database)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      return /[A-Za-z0-9_.-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
  return text.replace(/^\./, '%2E')
}
