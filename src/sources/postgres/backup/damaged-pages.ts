import { throwIfInterrupted } from '../../../errors.ts'
import type { Missed } from '../../../model.ts'
import { withSql } from '../protocol/connection.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'

/** A file in which the server found pages that do not match their checksums while it sent them. */
export interface DamagedFile {
  /** In the data directory. */
  path: string
  /** Those that the server named: five a file. */
  blocks: number[]
  /** The first thing that it said about the file, in its own language. */
  said: string
}

/** Files about which is told; each costs a line in the point. */
const MAX_DAMAGED = 1000

/**
 * Collects what the server says of damaged pages (verify_page_checksum's callers in src/backend/backup/basebackup.c). Its
 * language may be any, so only the path and numbers are looked for.
 */
export class DamagedFiles {
  readonly #files = new Map<string, DamagedFile>()

  /** False if the notice is about something else. */
  note(message: string): boolean {
    // It begins with ./ or the tablespace's folder.
    const match = /(?:^|[^\w])((?:base|global|pg_tblspc)\/[\w./-]*\w)/.exec(message)
    if (!match?.[1]) return false
    const path = match[1]
    if (!this.#files.has(path) && this.#files.size >= MAX_DAMAGED) return true
    const file = this.#files.get(path) ?? { path, blocks: [], said: message }
    const block = blockOf(message.slice(match.index + match[0].length))
    if (block !== null) file.blocks.push(block)
    this.#files.set(path, file)
    return true
  }

  get list(): DamagedFile[] {
    return [...this.#files.values()]
  }
}

/**
 * "… in file "./base/5/1259", block 3: calculated 52EA but expected 1C2": a block and two checksums in hex stand behind the
 * path, in each language. A summary of the file has one number there or none.
 */
function blockOf(behindPath: string): number | null {
  const [block = '', calculated, expected] = behindPath.match(/\b[\dA-F]+\b/g) ?? []
  return calculated !== undefined && expected !== undefined && /^\d+$/.test(block) ? Number(block) : null
}

/** The same for people, with the names of the relations as far as they can be had. */
export async function describeDamage(
  config: ConnectionConfig,
  files: readonly DamagedFile[],
  signal: AbortSignal,
): Promise<Missed[]> {
  if (files.length === 0) return []
  const names = await nameRelations(config, files, signal)
  return files.map(({ path, blocks, said }) => {
    const where = blocks.length === 0 ? 'pages' : `block${blocks.length === 1 ? '' : 's'} ${blocks.join(', ')}`
    const name = names.get(path)
    const what = name === undefined ? '' : ` of ${name}`
    return { path, reason: 'damaged', detail: `The server finds ${where}${what} damaged. PostgreSQL says: ${said}` }
  })
}

/** Path of a relation's file: its tablespace (none: the cluster's own), database (none: shared by all) and filenode. */
const FILE = /^(?:base\/(\d+)|global|pg_tblspc\/(\d+)\/[^/]+\/(\d+))\/(\d+)(?:_\w+)?(?:\.\d+)?$/

const DEFAULT_TABLESPACE = '1663'
const SHARED_TABLESPACE = '1664'

/** By path. What can't be named has only its path: that is no reason to lose a backup, least of all of a damaged cluster. */
async function nameRelations(
  config: ConnectionConfig,
  files: readonly DamagedFile[],
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  const byDatabase = new Map<string, { path: string; tablespace: string; filenode: string }[]>()
  for (const { path } of files) {
    const [, plain, tablespace, placed, filenode] = FILE.exec(path) ?? []
    if (filenode === undefined) continue
    const database = plain ?? placed ?? ''
    const inWhich = tablespace ?? (database === '' ? SHARED_TABLESPACE : DEFAULT_TABLESPACE)
    byDatabase.set(database, [...(byDatabase.get(database) ?? []), { path, tablespace: inWhich, filenode }])
  }
  for (const [oid, relations] of byDatabase) {
    try {
      const database = oid === '' ? config.database : await databaseName(config, oid, signal)
      if (database === null) continue
      const rows = await withSql({ ...config, database }, signal, async (client) => {
        const filenodes = relations.map(({ filenode }) => filenode)
        const tablespaces = relations.map(({ tablespace }) => tablespace)
        return (await client.query<{ n: string; name: string }>(NAMES, [tablespaces, filenodes])).rows
      })
      for (const { n, name } of rows) {
        const relation = relations[Number(n) - 1]
        if (relation) names.set(relation.path, `${name}${oid === '' ? '' : ` in the database ${database}`}`)
      }
    } catch {
      throwIfInterrupted(signal)
    }
  }
  return names
}

async function databaseName(config: ConnectionConfig, oid: string, signal: AbortSignal): Promise<string | null> {
  const sql = 'select datname from pg_catalog.pg_database where oid = $1::oid and datallowconn'
  const rows = await withSql(
    config,
    signal,
    async (client) => (await client.query<{ datname: string }>(sql, [oid])).rows,
  )
  return rows[0]?.datname ?? null
}

/** With what it belongs to, and, where nothing is lost but time, how it is made anew. */
const NAMES = `
  select f.n::text as n, case c.relkind when 'i' then 'the index ' when 'I' then 'the index ' when 't' then 'the TOAST table ' else 'the relation ' end
      || format('%I.%I', s.nspname, c.relname)
      || coalesce((select ' of ' || o.oid::regclass::text from pg_catalog.pg_class o where o.reltoastrelid = c.oid), '')
      || coalesce((select ' of ' || i.indrelid::regclass::text || ' (REINDEX mends it)' from pg_catalog.pg_index i where i.indexrelid = c.oid), '') as name
  from unnest($1::oid[], $2::oid[]) with ordinality f (tablespace, filenode, n)
  join pg_catalog.pg_class c on c.oid = pg_catalog.pg_filenode_relation(f.tablespace, f.filenode)
  join pg_catalog.pg_namespace s on s.oid = c.relnamespace`
