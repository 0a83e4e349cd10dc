import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Missed } from '../../../model.ts'
import type { PartsRestore, PartsSummary, PartsTarget, PointReader, SourceOptions } from '../../contract.ts'
import { parseName } from '../../postgres/parts/names.ts'
import { rolesArguments } from '../../postgres/parts/restore-parts.ts'
import { readRoles } from '../../postgres/parts/roles.ts'
import { checkTargetDatabase, describeTarget } from '../../postgres/parts/target-database.ts'
import { withSql } from '../../postgres/protocol/connection.ts'
import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'
import type { ConnectionConfig } from '../../postgres/protocol/connection-url.ts'
import { withClientEnvironment } from '../client-environment.ts'
import { type DumpedDatabase, GLOBALS } from '../positions.ts'
import type { ArchiveToc, TocEntry } from './archive-toc.ts'
import { Archives } from './archives.ts'
import { type Chosen, choose } from './choose.ts'
import { compareRestored } from './compare.ts'
import { makeRoles, missingTablespaces, parseGlobals, removeRoles } from './globals.ts'
import { type Load, loadInOneTransaction, loadParallel } from './load.ts'
import { createDatabase, setProperties } from './new-database.ts'
import { type How, type Prepared, prepare, type RestoreContext } from './plan.ts'
import type { TargetServer } from './target-server.ts'
import { writeArchives, writeSql } from './write-files.ts'

/** Dumps into servers, and parts of them into servers and files. */
export function createDumpRestore(context: RestoreContext): PartsRestore {
  return {
    plan: async (point, target, options) => (await prepare(point, target, options, context)).steps,
    restore: (reader, target, options) => new Restore(reader, target, options, context).run(),
  }
}

const SHOWN = 20

class Restore {
  readonly #reader: PointReader
  readonly #target: PartsTarget
  readonly #options: SourceOptions
  readonly #context: RestoreContext
  #bytes = 0

  constructor(reader: PointReader, target: PartsTarget, options: SourceOptions, context: RestoreContext) {
    this.#reader = reader
    this.#target = target
    this.#options = options
    this.#context = context
  }

  async run(): Promise<PartsSummary> {
    const prepared = await prepare(this.#reader.point, this.#target, this.#options, this.#context)
    const folder = await mkdtemp(join(tmpdir(), 'regain-restore-'))
    try {
      return await this.#carryOut(prepared, folder)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  async #carryOut(prepared: Prepared, folder: string): Promise<PartsSummary> {
    const { how, database } = prepared
    if (how.kind === 'everything') return this.#everything(prepared, how, folder)
    const dumped = database as DumpedDatabase
    const summary = { target: this.#target.to, database: dumped.name, reached: dumped.snapshotTime }
    if (how.kind === 'folder' || how.kind === 'archive') {
      const taken = (count: number) => {
        this.#bytes += count
        this.#options.progress({ phase: 'restore', bytesDone: this.#bytes })
      }
      const { bytes, files } = await writeArchives(await Archives.open(this.#reader), dumped, how, taken)
      return { ...summary, bytes, files, missed: [], tables: [] }
    }
    const archives = await Archives.open(this.#reader)
    const toc = await archives.head(dumped.archive, join(folder, 'head'))
    const chosen = choose(toc.entries, this.#target.selection)
    const load = await this.#loadOf(prepared, dumped, archives, folder, chosen)
    this.#tellLeftOut(dumped, chosen)
    this.#tellNeeds(chosen, toc, how)
    if (how.kind === 'script') {
      const environment = { ...this.#context.environment, PATH: this.#context.path, LC_ALL: 'C' }
      await writeSql({ ...load, environment }, how.path)
      return { ...summary, bytes: this.#bytes, files: 1, missed: [], tables: chosen.tables }
    }
    const target = describeTarget(how.config)
    const missed =
      how.kind === 'new-database'
        ? await this.#newDatabase(load, toc, how.server, how.config)
        : await this.#transaction(load, toc, chosen, how)
    return { ...summary, target, bytes: this.#bytes, files: 0, missed, tables: chosen.tables }
  }

  async #loadOf(
    { programs }: Prepared,
    database: DumpedDatabase,
    archives: Archives,
    folder: string,
    { entries }: Chosen,
  ): Promise<Load> {
    let list: string | null = null
    if (entries !== null) {
      list = join(folder, 'list')
      await writeFile(list, entries.map(({ id }) => `${id};\n`).join(''), { mode: 0o600, flag: 'wx' })
    }
    const rows = new Set(entries?.filter(({ kind }) => kind === 'TABLE DATA' || kind === 'TABLE').map(keyOfEntry))
    return {
      archives,
      database,
      head: join(folder, 'head'),
      list,
      tables: database.tables.filter(({ table }) => entries === null || rows.has(keyOfText(table))),
      args: [],
      programs,
      environment: {},
      options: this.#options,
      taken: (bytes) => {
        this.#bytes += bytes
        this.#options.progress({
          phase: 'restore',
          bytesDone: this.#bytes,
          bytesTotal: Math.max(this.#bytes, database.bytes),
        })
      },
    }
  }

  async #newDatabase(load: Load, toc: ArchiveToc, server: TargetServer, config: ConnectionConfig): Promise<Missed[]> {
    const { signal } = this.#options
    const args = await this.#argsFor(toc.entries, server, config)
    await this.#create(server, config.database, toc, args)
    try {
      await withClientEnvironment(config, this.#context, (environment) =>
        loadParallel({ ...load, args, environment }, config.database, this.#context.jobs),
      )
      await withSql(server.config, signal, (client) =>
        this.#setProperties(client, load.database.name, config.database, toc),
      )
      return await this.#compare(load.database.name, config, null)
    } catch (error) {
      await this.#drop(server, [config.database], [])
      throw error
    }
  }

  async #setProperties(
    client: Parameters<typeof setProperties>[0],
    was: string,
    name: string,
    toc: ArchiveToc,
  ): Promise<void> {
    if (was === name) return setProperties(client, name, toc.entries, this.#options.warn)
    this.#options.warn(`Owner, settings and privileges of the database ${was} itself were not given to ${name}.`)
  }

  async #transaction(
    load: Load,
    toc: ArchiveToc,
    chosen: Chosen,
    { server, config }: { server: TargetServer; config: ConnectionConfig },
  ): Promise<Missed[]> {
    const isSchema = this.#target.selection.schema !== null
    // As the point has it, whatever way it was written.
    const schema = isSchema
      ? (chosen.entries?.find((entry) => entry.schema !== null)?.schema ?? chosen.entries?.[0]?.tag ?? null)
      : null
    const tables = (chosen.entries ?? [])
      .filter(({ kind }) => ['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE'].includes(kind))
      .map((entry) => ({ oid: 0, schema: entry.schema ?? '', name: entry.tag }))
    const parts = { database: config.database, schema, tables: isSchema ? [] : tables }
    const state = await checkTargetDatabase(config, parts, [], this.#options.signal)
    const args = await this.#argsFor(chosen.entries ?? toc.entries, server, config)
    // Its own definition would be refused where it is there; what is in it is restored either way.
    if (schema !== null && state.hasSchema) args.push(`--schema=${schema}`)
    await withClientEnvironment(config, this.#context, (environment) =>
      loadInOneTransaction({ ...load, args, environment }, config.database),
    )
    const names = new Set(chosen.entries?.filter(({ kind }) => kind === 'TABLE').map(keyOfEntry))
    return this.#compare(
      load.database.name,
      config,
      chosen.entries === null ? null : (table) => names.has(keyOfText(table)),
    )
  }

  async #everything(
    prepared: Prepared,
    { server, emptyOnes }: Extract<How, { kind: 'everything' }>,
    folder: string,
  ): Promise<PartsSummary> {
    const { signal, warn } = this.#options
    const { positions } = prepared
    const archives = await Archives.open(this.#reader)
    const globals = parseGlobals((await this.#reader.readFile(GLOBALS)).toString('utf8'))
    if (!positions.rolePasswords) warn('The point has no passwords of roles: those that are made have none.')
    const roles = await withSql(server.config, signal, (client) => makeRoles(client, globals))
    const created: string[] = []
    const filled: string[] = []
    const missed: Missed[] = []
    try {
      const lacking = await withSql(server.config, signal, (client) => missingTablespaces(client, globals.tablespaces))
      if (lacking.length > 0)
        warn(`Everything goes to the default tablespace, since the target has no tablespace ${abridged(lacking)}.`)
      const args = lacking.length > 0 ? ['--no-tablespaces'] : []
      for (const [index, database] of positions.databases.entries()) {
        const own = join(folder, String(index))
        await mkdir(own, { mode: 0o700 })
        const toc = await archives.head(database.archive, join(own, 'head'))
        const chosen = { entries: null, tables: [], needs: [] }
        const load = { ...(await this.#loadOf(prepared, database, archives, own, chosen)), args }
        const config = { ...server.config, database: database.name }
        this.#tellLeftOut(database, chosen)
        if (!emptyOnes.includes(database.name)) {
          await this.#create(server, database.name, toc, args)
          created.push(database.name)
        }
        await withClientEnvironment(config, this.#context, (environment) =>
          emptyOnes.includes(database.name)
            ? loadInOneTransaction({ ...load, environment }, database.name)
            : loadParallel({ ...load, environment }, database.name, this.#context.jobs),
        )
        if (emptyOnes.includes(database.name) && toc.entries.some(({ kind }) => kind === 'TABLE'))
          filled.push(database.name)
        await withSql(server.config, signal, (client) => setProperties(client, database.name, toc.entries, warn))
        missed.push(...(await this.#compare(database.name, config, null)))
      }
    } catch (error) {
      await this.#drop(server, created, roles)
      if (filled.length > 0)
        this.#options.warn(
          `${abridged(filled)}, which was there and empty, has been filled. Empty it before the next try.`,
        )
      throw error
    }
    return {
      target: describeTarget(server.config).replace(/\/[^/]*$/, ''),
      database: positions.databases.map(({ name }) => name).join(', '),
      tables: [],
      reached: positions.databases[0]?.snapshotTime ?? positions.startTime,
      bytes: this.#bytes,
      files: 0,
      missed,
    }
  }

  async #create(server: TargetServer, name: string, toc: ArchiveToc, args: readonly string[]): Promise<void> {
    const tablespaces = !args.includes('--no-tablespaces')
    await withSql(server.config, this.#options.signal, (client) =>
      createDatabase(client, name, toc.entries, { tablespaces }),
    )
  }

  /** After a failure, and also when interrupted: what was made is removed, or said to be there. */
  async #drop(server: TargetServer, databases: readonly string[], roles: readonly string[]): Promise<void> {
    try {
      await withSql(server.config, new AbortController().signal, async (client) => {
        for (const name of databases)
          await client.query(`drop database if exists ${quoteIdentifier(name)} with (force)`)
        await removeRoles(client, roles)
      })
    } catch (error) {
      const what = [...databases.map((name) => `database ${name}`), ...roles.map((name) => `role ${name}`)]
      this.#options.warn(
        `What the restore had made could not all be removed: look for ${abridged(what)} at the target. Do not use it. (${(error as Error).message})`,
      )
    }
  }

  /** What pg_restore must leave out at this target. */
  async #argsFor(entries: readonly TocEntry[], server: TargetServer, config: ConnectionConfig): Promise<string[]> {
    const { signal } = this.#options
    const owners = new Set(entries.map(({ owner }) => owner).filter((owner) => owner !== ''))
    const { grantees } = await readRoles(linesOf(entries.filter(({ kind }) => kind.endsWith('ACL'))))
    const roles = await withSql(server.config, signal, async (client) => {
      const { rows } = await client.query<{ name: string }>('select rolname as name from pg_catalog.pg_roles')
      return new Set(rows.map(({ name }) => name))
    })
    const state = { hasSchema: false, roles, role: config.user, isSuperuser: server.isSuperuser }
    const args = rolesArguments({ owners, grantees }, state, this.#options)
    const globals = parseGlobals((await this.#reader.readFile(GLOBALS)).toString('utf8'))
    const lacking = await withSql(server.config, signal, (client) => missingTablespaces(client, globals.tablespaces))
    return lacking.length > 0 ? [...args, '--no-tablespaces'] : args
  }

  #compare(
    database: string,
    config: ConnectionConfig,
    isRestored: ((table: string) => boolean) | null,
  ): Promise<Missed[]> {
    const { point } = this.#reader
    const now = this.#context.ambient.now
    return compareRestored({ point, database, config, isRestored, options: this.#options, now })
  }

  /** A file will be loaded later, where roles may be missing as well; of a target what it lacks is told when it is known. */
  #tellNeeds({ entries, needs }: Chosen, toc: ArchiveToc, { kind }: How): void {
    const owners = kind === 'script' ? (entries ?? toc.entries).map(({ owner }) => owner) : []
    const roles = [...new Set(owners)]
      .filter((owner) => owner !== '' && owner !== 'postgres')
      .map((owner) => `role ${owner}`)
    const list = [...needs, ...roles.sort()]
    if (list.length > 0) this.#options.warn(`It needs where it is loaded, and does not bring along: ${abridged(list)}.`)
  }

  #tellLeftOut({ name, leftOut, leftOutCount }: DumpedDatabase, { entries }: Chosen): void {
    const names = entries === null ? null : new Set(entries.map(keyOfEntry))
    const shown = names === null ? leftOut : leftOut.filter((table) => names.has(keyOfText(table)))
    if (shown.length === 0) return
    const more = names === null && leftOutCount > shown.length ? ` and ${leftOutCount - shown.length} more` : ''
    this.#options.warn(
      `Empty in ${name}, because their rows were left out of the point on purpose: ${abridged(shown)}${more}.`,
    )
  }
}

async function* linesOf(entries: readonly TocEntry[]): AsyncGenerator<string, void, undefined> {
  for (const { definition } of entries) yield* definition.split('\n')
}

/** Tells tables apart, however their names are quoted. */
function keyOf(schema: string | null, name: string): string {
  return JSON.stringify([schema, name])
}

/** Of a name in positions or fingerprints, as the server's quote_ident wrote it. */
function keyOfText(text: string): string {
  const { schema, name } = parseName(text)
  return keyOf(schema?.text ?? null, name.text)
}

function keyOfEntry({ schema, tag }: TocEntry): string {
  return keyOf(schema, tag)
}

function abridged(list: readonly string[]): string {
  return list.slice(0, SHOWN).join(', ') + (list.length > SHOWN ? ` and ${list.length - SHOWN} more` : '')
}
