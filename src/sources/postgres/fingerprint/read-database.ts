import type pg from 'pg'
import type { DatabaseFingerprint, TableCount } from '../../../model.ts'
import { hashDefinitions } from './definitions.ts'

export interface ReadDatabase {
  /** Milliseconds that are left for it, asked before each count. */
  leftMs(): number
  /** At most so many tables are counted one by one: the largest, or those of `tables`. */
  maxCounts: number
  /** SCHEMA.TABLE as in an earlier fingerprint: these are counted. Null: the largest. */
  tables: readonly string[] | null
  /** Whether rows of a table are left out of the point. */
  isLeftOut(table: DatabaseTable): boolean
}

export interface DatabaseTable {
  /** SCHEMA.TABLE, quoted as SQL needs it. */
  name: string
  unlogged: boolean
}

/** What is read of a table to count it: whole up to here, else so many blocks of it. */
const EXACT_BYTES = 64 * 1024 * 1024
const SAMPLED_BLOCKS = 512
/** A table that somebody has for himself is estimated. */
const LOCK_WAIT_MS = 1000

interface FoundTable extends DatabaseTable {
  bytes: number
  pages: number
  /** By the last VACUUM or ANALYZE; null: there was none. */
  estimate: number | null
  readable: boolean
}

/**
 * In an open transaction of REPEATABLE READ, so that all is of one snapshot, which is left usable. Reads at most
 * `maxCounts` × 64 MiB and for as long as `leftMs` says: what is not counted then is estimated, and says so.
 */
export async function readDatabase(
  client: pg.Client,
  name: string,
  request: ReadDatabase,
): Promise<DatabaseFingerprint> {
  // No function of a user's may stand in for one of the server's. A policy must be an error, not fewer rows.
  const timeoutMs = Math.max(1, Math.floor(request.leftMs()))
  await client.query(
    // Compiling the query for the definitions takes many times as long as running it.
    `set local search_path = ''; set local jit = off; set local row_security = off; set local statement_timeout = ${timeoutMs}; set local lock_timeout = ${LOCK_WAIT_MS}`,
  )
  const schema = await hashDefinitions(client)
  const { rows: objects } = await client.query<{ count: string }>(
    'select count(*) from pg_catalog.pg_largeobject_metadata',
  )
  const found = await findTables(client)
  const wanted = request.tables && new Set(request.tables)
  const chosen = (wanted ? found.filter((table) => wanted.has(table.name)) : found).slice(0, request.maxCounts)
  const rows = new Map<FoundTable, TableCount>()
  // Small ones first: of these most can be counted before time is up.
  for (const table of chosen.toReversed()) rows.set(table, await count(client, table, request))
  const taken = new Set(chosen)
  const others = found.filter((table) => !taken.has(table))
  return {
    name,
    schema,
    tables: found.length,
    largeObjects: Number(objects[0]?.count ?? 0),
    counts: chosen.map((table) => rows.get(table)!),
    others: { tables: others.length, rows: others.reduce((sum, { estimate }) => sum + (estimate ?? 0), 0) },
  }
}

/** Largest first, those of extensions left out: they come back with the extension. */
async function findTables(client: pg.Client): Promise<FoundTable[]> {
  const { rows } = await client.query<FoundTable>(
    `select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name, c.relpersistence = 'u' as unlogged,
       size.bytes::float8 as bytes, pg_catalog.ceil(size.bytes / block.bytes)::float8 as pages,
       case when size.bytes = 0 then 0 when c.relpages > 0 and c.reltuples >= 0
         then pg_catalog.round(c.reltuples::float8 / c.relpages * pg_catalog.ceil(size.bytes / block.bytes)) end::float8 as estimate,
       pg_catalog.has_table_privilege(c.oid, 'select') and not size.locked as readable
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       cross join (select pg_catalog.current_setting('block_size')::numeric as bytes) block
       left join (select distinct relation from pg_catalog.pg_locks where mode = 'AccessExclusiveLock' and granted and relation is not null
         and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())) l on l.relation = c.oid
       cross join lateral (select l.relation is not null as locked,
         -- The size of one that is locked would have to be waited for.
         case when l.relation is null then coalesce(pg_catalog.pg_relation_size(c.oid), 0) else c.relpages * block.bytes end::numeric as bytes) size
     where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and not exists (select from pg_catalog.pg_depend d
         where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e')
     order by size.bytes desc, 1`,
  )
  return rows
}

async function count(client: pg.Client, table: FoundTable, request: ReadDatabase): Promise<TableCount> {
  if (request.isLeftOut(table)) return { table: table.name, rows: 0, how: 'left-out' }
  const estimated: TableCount = { table: table.name, rows: table.estimate, how: 'estimated' }
  const leftMs = Math.floor(request.leftMs())
  if (!table.readable || leftMs < 1) return estimated
  const isSmall = table.bytes <= EXACT_BYTES
  // The same blocks each time, as long as they are the same.
  const percent = (100 * SAMPLED_BLOCKS) / Math.max(1, table.pages)
  const sample = isSmall ? '' : ` tablesample system (${percent}) repeatable (0)`
  const text = `savepoint regain_count; set local statement_timeout = ${leftMs}; select count(*)::float8 as n from only ${table.name}${sample}; release savepoint regain_count`
  try {
    const results = (await client.query(text)) as unknown as pg.QueryResult<{ n: number }>[]
    const n = results[2]?.rows[0]?.n ?? 0
    if (isSmall) return { table: table.name, rows: n, how: 'exact' }
    return { table: table.name, rows: Math.round((n * 100) / percent), how: 'sampled' }
  } catch (error) {
    // A connection that broke has no SQLSTATE. All else is about this table: locked, no time left, a policy, a bad page.
    if (!/^[0-9A-Z]{5}$/.test((error as { code?: string }).code ?? '')) throw error
    await client.query('rollback to savepoint regain_count; release savepoint regain_count')
    return estimated
  }
}
