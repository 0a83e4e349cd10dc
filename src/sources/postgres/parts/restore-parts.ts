import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import type { Point } from '../../../model.ts'
import type {
  LogStore,
  PartsRestore,
  PartsSelection,
  PartsSummary,
  PartsTarget,
  PointReader,
  SourceOptions,
} from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { withSql } from '../protocol/connection.ts'
import { quoteLiteral } from '../protocol/connection-errors.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import { parseLsn } from '../protocol/lsn.ts'
import type { RecoveryPlan } from '../recovery/plan.ts'
import { planRecovery } from '../recovery/recovery-log.ts'
import { findPostgres, type PostgresBinaries } from '../server/binaries.ts'
import type { BinarySearch } from '../server/programs.ts'
import { type ClientPrograms, findClientPrograms } from '../server/programs.ts'
import { type DumpRequest, dumpToDatabase, dumpToFile, readDumpRoles } from './dump.ts'
import { parseName } from './names.ts'
import { findNeeds, findUnlogged, type Need } from './needs.ts'
import { checkOutput, formatOf, writeOutput } from './output.ts'
import type { NamedRoles } from './roles.ts'
import { checkSandboxSpace, type Sandbox, withSandbox } from './sandbox.ts'
import { checkDatabase, describeParts, resolveSelection, tableName } from './selection.ts'
import {
  checkTargetBefore,
  checkTargetDatabase,
  describeTarget,
  parseTargetUrl,
  type TargetState,
} from './target-database.ts'

export interface PartsContext {
  store: LogStore
  search: BinarySearch
  /** Of the configured URL. */
  user: string
  database: string
  /** What clients of PostgreSQL may take from our own environment for the target: passwords, where they are kept. */
  environment: Readonly<Record<string, string>>
}

/**
 * Tables, a schema or a database, as of any moment: the whole cluster recovers in a sandbox, pg_dump reads what was asked
 * for, and the sandbox is gone again.
 */
export function createPartsRestore(context: PartsContext): PartsRestore {
  return {
    plan: async (point, target, options) => (await prepare(point, target, options, context)).steps,
    restore: (reader, target, options) => restoreParts(reader, target, options, context),
  }
}

interface Prepared {
  steps: string[]
  plan: RecoveryPlan
  binaries: PostgresBinaries
  programs: ClientPrograms
  /** Null: into a file or directory. */
  database: ConnectionConfig | null
}

async function prepare(
  point: Point,
  { selection, to, at }: PartsTarget,
  options: SourceOptions,
  context: PartsContext,
): Promise<Prepared> {
  const database = /^postgres(ql)?:\/\//.test(to) ? parseTargetUrl(to) : null
  for (const table of selection.tables) parseName(table)
  const positions = positionsOf(point)
  const plan = await planRecovery([point], context.store, at, options.signal)
  const binaries = await findPostgres(positions.major, context.search)
  // Beside the server's own, where that has them.
  const programs = await findClientPrograms(binaries.major, ['pg_dump', 'pg_restore'], {
    ...context.search,
    directories: [binaries.directory, ...(context.search.directories ?? [])],
  })
  // Before a position that is asked for recovery stops; where the others lie in the log shows only on the way.
  const until =
    plan.target.kind === 'immediate'
      ? positions.stopLsn
      : plan.target.kind === 'lsn'
        ? parseLsn(plan.target.value)
        : plan.end
  const logBytes = Number(until - positions.startLsn)
  const space = await checkSandboxSpace(point, logBytes)
  if (database !== null) await checkTargetBefore(database, selection, options)
  else await checkOutput(to)
  const bytes = (count: number): string => count.toLocaleString('en-US')
  const isBound = plan.target.kind === 'time' || plan.target.kind === 'xid' || plan.target.kind === 'name'
  const formats = { plain: 'SQL', custom: 'an archive for pg_restore', directory: 'a directory for pg_restore' }
  const steps = [
    `restore the whole cluster, since its log knows no less, into a sandbox in ${space.place}: up to ${bytes(space.neededBytes)} bytes of the ${bytes(space.freeBytes)} that are free there`,
    `replay ${isBound ? 'up to ' : ''}${bytes(logBytes)} bytes of log with PostgreSQL ${binaries.version} of ${binaries.directory}, which nobody else can reach and which reaches nobody`,
    `take out ${describeSelection(selection, context.database)} with pg_dump ${programs.version} of ${programs.directory}`,
    database === null
      ? `write ${formats[formatOf(to)]} to ${to}`
      : `load it into ${describeTarget(database)} in one transaction, if nothing of it is there`,
    'stop the sandbox and remove it',
  ]
  return { steps, plan, binaries, programs, database }
}

async function restoreParts(
  reader: PointReader,
  target: PartsTarget,
  options: SourceOptions,
  context: PartsContext,
): Promise<PartsSummary> {
  // What it remarks was said with the plan.
  const prepared = await prepare(reader.point, target, { ...options, warn: () => undefined }, context)
  const { plan, binaries, programs } = prepared
  for (const note of plan.notes) options.warn(note)
  const request = { reader, plan, binaries, store: context.store, user: context.user, options }
  return withSandbox(request, async (sandbox) => {
    const { chosen, needs, missed } = await choose(sandbox, target.selection, options, context)
    const from = sandbox.connection(chosen.database)
    const dump = { programs, from, chosen, path: context.search.path ?? '', options }
    const written =
      prepared.database === null
        ? await toFile(dump, target.to, needs)
        : await toDatabase(dump, prepared.database, needs, context)
    return {
      ...written,
      missed,
      target: prepared.database === null ? target.to : describeTarget(prepared.database),
      database: chosen.database,
      tables: chosen.tables.map(tableName),
      reached: sandbox.reached,
    }
  })
}

async function choose(sandbox: Sandbox, selection: PartsSelection, { signal }: SourceOptions, context: PartsContext) {
  const database = selection.database ?? context.database
  // Any database knows of the others; this one is there unless somebody removed it.
  await withSql(sandbox.connection('postgres'), signal, (client) => checkDatabase(client, database))
  return withSql(sandbox.connection(database), signal, async (client) => {
    await endPrepared(client)
    const chosen = await resolveSelection(client, database, selection)
    return { chosen, needs: await findNeeds(client, chosen), missed: await findUnlogged(client, chosen) }
  })
}

/** Not committed at that moment, they would hold their locks for ever, and nothing of them may be read. */
async function endPrepared(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ gid: string }>(
    'select gid from pg_catalog.pg_prepared_xacts where database = pg_catalog.current_database()',
  )
  for (const { gid } of rows) await client.query(`rollback prepared ${quoteLiteral(gid)}`)
}

async function toFile(
  dump: DumpRequest,
  path: string,
  needs: readonly Need[],
): Promise<{ bytes: number; files: number }> {
  let bytes = 0
  let files = 1
  await writeOutput(path, async (unfinished) => {
    bytes = await dumpToFile(dump, path, unfinished)
    if (formatOf(path) === 'directory') ({ bytes, files } = await measure(unfinished))
  })
  tellNeeds(dump, needs, await readDumpRoles(dump))
  return { bytes, files }
}

/** What a dump is not: somebody will load it later, where this may be missing. */
function tellNeeds({ chosen, options }: DumpRequest, needs: readonly Need[], { owners, grantees }: NamedRoles): void {
  const roles = [...new Set([...owners, ...grantees])].filter((role) => role !== 'postgres').sort()
  const list = [...needs.map(({ description }) => description), ...roles.map((role) => `role ${role}`)]
  if (list.length === 0) return
  options.warn(`${describeParts(chosen)} needs where it is loaded, and does not bring along: ${abridged(list)}.`)
}

async function toDatabase(
  dump: DumpRequest,
  to: ConnectionConfig,
  needs: readonly Need[],
  context: PartsContext,
): Promise<{ bytes: number; files: number }> {
  const { chosen, options } = dump
  const state = await checkTargetDatabase(to, chosen, needs, options.signal)
  const args = rolesArguments(await readDumpRoles(dump), state, options)
  // Its own definition would be refused where it is there; what is in it is restored either way.
  if (chosen.schema !== null && state.hasSchema) args.push(`--schema=${chosen.schema}`)
  return { bytes: await dumpToDatabase(dump, to, context.environment, args), files: 0 }
}

/** What pg_restore must leave out, because the target lacks roles or rights; each is told. */
export function rolesArguments({ owners, grantees }: NamedRoles, state: TargetState, options: SourceOptions): string[] {
  const args: string[] = []
  const without = [...owners].filter((role) => !state.roles.has(role))
  const others = [...owners].filter((role) => role !== state.role)
  if (without.length > 0 || (!state.isSuperuser && others.length > 0)) {
    args.push('--no-owner')
    const reason =
      without.length > 0
        ? `the target has no role ${abridged(without)}`
        : `${state.role} is no superuser there and may not give it to ${abridged(others)}`
    options.warn(`All that is restored belongs to ${state.role}, since ${reason}.`)
  }
  const ungranted = [...grantees].filter((role) => !state.roles.has(role))
  if (ungranted.length > 0) {
    args.push('--no-privileges')
    options.warn(`No privileges are restored, since the target has no role ${abridged(ungranted)}.`)
  }
  return args
}

const SHOWN = 20

function abridged(list: readonly string[]): string {
  return list.slice(0, SHOWN).join(', ') + (list.length > SHOWN ? ` and ${list.length - SHOWN} more` : '')
}

function describeSelection({ database, schema, tables }: PartsSelection, configured: string): string {
  const where = `the database ${database ?? configured}`
  if (schema !== null) return `the schema ${schema} of ${where}`
  return tables.length === 0 ? where : `${tables.join(', ')} of ${where}`
}

async function measure(directory: string): Promise<{ bytes: number; files: number }> {
  const names = await readdir(directory)
  let bytes = 0
  for (const name of names) bytes += (await stat(join(directory, name))).size
  return { bytes, files: names.length }
}
