import type pg from 'pg'
import { isRegainError, RegainError } from '../../../errors.ts'
import type { PartsSelection, SourceOptions } from '../../contract.ts'
import { withSql } from '../protocol/connection.ts'
import { type ConnectionConfig, describeConnection, parseConnectionUrl } from '../protocol/connection-url.ts'
import { parseName, readings } from './names.ts'
import type { Need } from './needs.ts'
import { type ChosenParts, type ChosenTable, DUMPED_KINDS, describeParts, tableName } from './selection.ts'

/** Reads the URL of --to. Rejects with `usage`: it must name its database, since writing into the wrong one would hurt. */
export function parseTargetUrl(url: string): ConnectionConfig {
  const config = parseUrl(url)
  const named = /^[a-z]+:\/\/[^/?#]*\/[^?#]/.test(url) || /[?&]dbname=[^&]/.test(url)
  if (named) return config
  throw new RegainError('usage', '--to does not name the database to restore into. Nothing was done.', {
    hint: 'Such as: --to postgres://user@host:5432/shop',
  })
}

function parseUrl(url: string): ConnectionConfig {
  try {
    return parseConnectionUrl(url)
  } catch (error) {
    if (!isRegainError(error)) throw error
    throw new RegainError('usage', error.message, { hint: error.hint })
  }
}

/** 'postgres://user@host:5432/shop'. */
export function describeTarget(config: ConnectionConfig): string {
  return `${describeConnection(config)}/${config.database}`
}

/**
 * What can be known before the cluster is restored, which may take hours. Rejects if the target cannot be reached, or with
 * `target-not-empty` if it surely holds what was asked for; a name that leaves its schema open is only a remark.
 */
export function checkTargetBefore(
  config: ConnectionConfig,
  selection: PartsSelection,
  { signal, warn }: SourceOptions,
): Promise<void> {
  return withSql(config, signal, async (client) => {
    const { sure, open } = foresee(selection)
    const existing = sure === null ? [] : await findExisting(client, sure)
    if (existing.length > 0) throw notOver(config, existing)
    const { rows } = await client.query<{ schema: string; name: string }>(
      `select n.nspname as schema, c.relname as name
       from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       where c.relname = any($1::text[]) and c.relkind in (${DUMPED_KINDS}) order by 1, 2 limit ${MOST}`,
      [open],
    )
    if (rows.length === 0) return
    warn(`The target has ${rows.map(tableName).join(', ')}: if that is what is to be restored, it will be refused.`)
  })
}

/** What a selection means whatever the restored moment holds, and names of tables that leave something open. */
function foresee({ schema, tables }: PartsSelection): { sure: ChosenParts | null; open: string[] } {
  const parts = { database: '', schema: null, tables: [] }
  if (schema !== null) return { sure: schema === schema.toLowerCase() ? { ...parts, schema } : null, open: [] }
  if (tables.length === 0) return { sure: parts, open: [] }
  const sure: ChosenTable[] = []
  const open: string[] = []
  for (const written of tables) {
    const wanted = parseName(written)
    const names = readings(wanted.name)
    const schemas = wanted.schema === null ? [] : readings(wanted.schema)
    const [name, inSchema] = [names[0], schemas[0]]
    if (names.length === 1 && schemas.length === 1 && name !== undefined && inSchema !== undefined)
      sure.push({ oid: 0, schema: inSchema, name })
    else open.push(...names)
  }
  return { sure: sure.length === 0 ? null : { ...parts, tables: sure }, open }
}

/** What the target is like, as far as the restore must heed it. */
export interface TargetState {
  /** The schema that was asked for is there already, with nothing in it. */
  hasSchema: boolean
  roles: Set<string>
  role: string
  isSuperuser: boolean
}

/** Rejects with `target-not-empty` if anything that was asked for is there, and with `precondition-failed` if what it needs is not. */
export function checkTargetDatabase(
  config: ConnectionConfig,
  chosen: ChosenParts,
  needs: readonly Need[],
  signal: AbortSignal,
): Promise<TargetState> {
  return withSql(config, signal, async (client) => {
    const existing = await findExisting(client, chosen)
    if (existing.length > 0) throw notOver(config, existing)
    const missing: string[] = []
    for (const need of needs) if (!(await isThere(client, need))) missing.push(need.description)
    if (missing.length > 0) throw needed(config, chosen, missing)
    const { rows } = await client.query<{ name: string; mine: boolean; super: boolean }>(
      'select rolname as name, rolname = current_user as mine, rolsuper as super from pg_catalog.pg_roles',
    )
    const own = rows.find(({ mine }) => mine)
    const schemas = await client.query('select from pg_catalog.pg_namespace where nspname = $1', [chosen.schema])
    return {
      hasSchema: schemas.rows.length > 0,
      roles: new Set(rows.map(({ name }) => name)),
      role: own?.name ?? config.user,
      isSuperuser: own?.super === true,
    }
  })
}

const MOST = 20

async function findExisting(client: pg.Client, { schema, tables }: ChosenParts): Promise<string[]> {
  if (tables.length > 0) {
    const { rows } = await client.query<{ schema: string; name: string }>(
      `select n.nspname as schema, c.relname as name
       from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       join unnest($1::text[], $2::text[]) as wanted (schema, name) on wanted.schema = n.nspname and wanted.name = c.relname
       order by 1, 2 limit ${MOST}`,
      [tables.map((table) => table.schema), tables.map(({ name }) => name)],
    )
    return rows.map(tableName)
  }
  const { rows } = await client.query<{ what: string }>(
    `select what from (
       select c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass as class, c.relnamespace as namespace, pg_catalog.format('%I.%I', n.nspname, c.relname) as what
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in (${DUMPED_KINDS}, 'c')
       union all
       select p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass, p.pronamespace, pg_catalog.format('function %I.%I', n.nspname, p.proname)
         from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
       union all
       select t.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, t.typnamespace, pg_catalog.format('type %I.%I', n.nspname, t.typname)
         from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where t.typtype in ('d', 'e', 'r')
       union all
       select s.oid, 'pg_catalog.pg_namespace'::pg_catalog.regclass, s.oid, pg_catalog.format('schema %I', s.nspname)
         from pg_catalog.pg_namespace s where $1::text is null and s.nspname <> 'public'
     ) objects join pg_catalog.pg_namespace n on n.oid = objects.namespace
     where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and ($1::text is null or n.nspname = $1)
       and not exists (select from pg_catalog.pg_depend d where d.classid = objects.class and d.objid = objects.oid and d.deptype = 'e')
     order by 1 limit ${MOST}`,
    [schema],
  )
  return rows.map(({ what }) => what)
}

function notOver(config: ConnectionConfig, existing: string[]): RegainError {
  return new RegainError(
    'target-not-empty',
    `${describeTarget(config)} holds already: ${existing.join(', ')}${existing.length === MOST ? ' …' : ''}. Nothing was restored, and nothing there was touched.`,
    {
      hint: 'Restore into another database (CREATE DATABASE rescue) and copy from it what you need; or rename what is in the way.',
    },
  )
}

function needed(config: ConnectionConfig, chosen: ChosenParts, missing: string[]): RegainError {
  return new RegainError(
    'precondition-failed',
    `${describeParts(chosen)} cannot be restored into ${describeTarget(config)} without what it refers to, which is not there: ${missing.join(', ')}. Nothing was restored.`,
    {
      hint: 'Add the tables with --table, make the rest there first, restore the schema or database, or restore into a file.',
    },
  )
}

async function isThere(client: pg.Client, { type, names, args }: Need): Promise<boolean> {
  try {
    await client.query('select pg_catalog.pg_get_object_address($1, $2::text[], $3::text[])', [type, names, args])
    return true
  } catch (error) {
    // Class 42 and 3F: there is no such thing. Anything else is another trouble.
    if (/^(42|3F)/.test((error as { code?: string }).code ?? '')) return false
    throw error
  }
}
