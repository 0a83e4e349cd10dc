import { RegainError } from '../../../errors.ts'
import type { Ambient, Point } from '../../../model.ts'
import type { PartsTarget, SourceOptions } from '../../contract.ts'
import { parseName } from '../../postgres/parts/names.ts'
import { checkOutput, formatOf } from '../../postgres/parts/output.ts'
import { describeTarget, parseTargetUrl } from '../../postgres/parts/target-database.ts'
import { type ConnectionConfig, parseConnectionUrl } from '../../postgres/protocol/connection-url.ts'
import type { BinarySearch, ClientPrograms } from '../../postgres/server/programs.ts'
import { findClientPrograms } from '../../postgres/server/programs.ts'
import type { ClientContext } from '../client-environment.ts'
import { RESTORING } from '../dump-files.ts'
import { type DumpedDatabase, type DumpPositions, dumpPositionsOf } from '../positions.ts'
import { askTarget, requireEmpty, type TargetServer } from './target-server.ts'

export interface RestoreContext extends ClientContext {
  ambient: Ambient
  search: BinarySearch
  /** How many programs load into the server at once. */
  jobs: number
  /** Of the configured URL. */
  database: string
}

/** Where it goes, which decides how. */
export type How =
  | { kind: 'everything'; server: TargetServer; emptyOnes: string[] }
  | { kind: 'new-database'; server: TargetServer; config: ConnectionConfig }
  | { kind: 'transaction'; server: TargetServer; config: ConnectionConfig }
  | { kind: 'script'; path: string }
  | { kind: 'archive'; path: string }
  | { kind: 'folder'; path: string }

export interface Prepared {
  steps: string[]
  positions: DumpPositions
  programs: ClientPrograms
  /** Null: all. */
  database: DumpedDatabase | null
  how: How
}

/** Rejects with what can be known to keep it from working. Changes nothing. */
export async function prepare(
  point: Point,
  target: PartsTarget,
  { signal }: SourceOptions,
  context: RestoreContext,
): Promise<Prepared> {
  const { selection, at } = target
  if (at.kind === 'lsn' || at.kind === 'xid' || at.kind === 'name')
    throw new RegainError('moment-unreachable', 'Dumps are of the moment of their point alone, and have no log.')
  for (const table of selection.tables) parseName(table)
  const positions = dumpPositionsOf(point)
  const programs = await findClientPrograms(Number.parseInt(positions.programs, 10), RESTORING, context.search)
  const isAll = selection.database === null && selection.schema === null && selection.tables.length === 0
  const database = isAll ? null : findDatabase(positions, selection.database, context.database)
  const how = await chooseHow(target, positions, database, signal)
  return { steps: describe(how, target, positions, database, programs, context), positions, programs, database, how }
}

function findDatabase(positions: DumpPositions, asked: string | null, configured: string): DumpedDatabase {
  const { databases } = positions
  const name = asked ?? (databases.length === 1 ? databases[0]!.name : configured)
  const found = databases.find((database) => database.name === name)
  if (found) return found
  const names = databases.map((database) => database.name).join(', ')
  throw new RegainError(
    'precondition-failed',
    `The point has no database "${name}"; it has ${names}. Nothing was restored.`,
    {
      hint: 'Name one of them with --database.',
    },
  )
}

async function chooseHow(
  { selection, to }: PartsTarget,
  positions: DumpPositions,
  database: DumpedDatabase | null,
  signal: AbortSignal,
): Promise<How> {
  const isWhole = selection.schema === null && selection.tables.length === 0
  if (database === null) return chooseForEverything(to, positions, signal)
  if (/^postgres(ql)?:\/\//.test(to)) {
    const config = parseTargetUrl(to)
    const server = await askTarget(config, signal)
    if (server.databases.has(config.database)) {
      if (isWhole) await requireEmpty(config, signal)
      return { kind: 'transaction', server, config }
    }
    if (isWhole) return { kind: 'new-database', server, config }
    throw new RegainError('precondition-failed', `${describeTarget(config)} is not there. Nothing was restored.`, {
      hint: 'Only a whole database is made; for a part of one make the database first.',
    })
  }
  await checkOutput(to)
  const format = formatOf(to)
  if (format === 'plain') return { kind: 'script', path: to }
  if (isWhole && format === 'directory') return { kind: 'folder', path: to }
  if (isWhole && database.tables.length === 0) return { kind: 'archive', path: to }
  throw new RegainError(
    'usage',
    isWhole
      ? `${database.name} is kept in ${database.tables.length + 1} archives, of which one file can't be made. Nothing was done.`
      : 'Of a dump, parts are written as SQL or straight into a database, not as an archive. Nothing was done.',
    { hint: isWhole ? 'Name a directory, or FILE.sql.' : 'Name FILE.sql, or postgres://user@host:5432/database.' },
  )
}

async function chooseForEverything(to: string, positions: DumpPositions, signal: AbortSignal): Promise<How> {
  const server = await askTarget(parseConnectionUrl(to), signal)
  if (!server.isSuperuser) {
    throw new RegainError(
      'precondition-failed',
      `Roles and databases are made by a superuser, and ${server.config.user} is none there. Nothing was restored.`,
      { hint: 'Connect as one; or restore one database after the other with --database.' },
    )
  }
  const emptyOnes = positions.databases.map(({ name }) => name).filter((name) => server.databases.has(name))
  // All of them before anything is written.
  for (const name of emptyOnes) await requireEmpty({ ...server.config, database: name }, signal)
  return { kind: 'everything', server, emptyOnes }
}

function describe(
  how: How,
  { selection }: PartsTarget,
  positions: DumpPositions,
  database: DumpedDatabase | null,
  { version, directory }: ClientPrograms,
  { jobs }: RestoreContext,
): string[] {
  const what =
    selection.schema !== null
      ? `the schema ${selection.schema} of ${database?.name}`
      : selection.tables.length > 0
        ? `${selection.tables.join(', ')} of ${database?.name}`
        : `the database ${database?.name}`
  const by = `with pg_restore ${version} of ${directory}`
  const isWhole = selection.schema === null && selection.tables.length === 0
  const compare = `compare counts of rows${isWhole ? ', and definitions,' : ''} with those of the point`
  switch (how.kind) {
    case 'everything':
      return [
        'make the roles that are not there; those that are stay as they are',
        ...positions.databases.map(({ name }) =>
          how.emptyOnes.includes(name)
            ? `load ${name}, which is there and empty, in one transaction ${by}`
            : `make the database ${name} and load it, ${jobs} at a time: definitions, rows, then indexes and keys ${by}`,
        ),
        compare,
        'if any of it fails, remove the databases and roles that were made',
      ]
    case 'new-database':
      return [
        `make the database ${how.config.database}, and remove it again if anything fails`,
        `load ${what} into it, ${jobs} at a time: definitions, rows, then indexes and keys ${by}`,
        compare,
      ]
    case 'transaction':
      return [
        `load ${what} into ${describeTarget(how.config)} in one transaction ${by}, if nothing of it is there (into a database that is not there yet it goes faster, ${jobs} at a time)`,
        compare,
      ]
    case 'script':
      return [`write ${what} as SQL to ${how.path} ${by}`]
    case 'archive':
      return [`write the archive of ${what} to ${how.path}`]
    case 'folder':
      return [`write the archives of ${what} to ${how.path}`]
  }
}
