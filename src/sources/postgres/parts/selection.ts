import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import type { PartsSelection } from '../../contract.ts'
import { quoteIdentifier } from '../protocol/connection-errors.ts'
import { nearNames, parseName, readings } from './names.ts'

/** What was asked for, as the restored cluster knows it. */
export interface ChosenParts {
  database: string
  /** Null: not a schema was asked for. */
  schema: string | null
  /** Empty: not tables were asked for. With the partitions and other children of what was. */
  tables: ChosenTable[]
}

export interface ChosenTable {
  oid: number
  schema: string
  name: string
}

/** Relations that can be dumped: tables, partitioned ones, views, materialized ones, foreign tables, sequences. */
export const DUMPED_KINDS = `'r', 'p', 'v', 'm', 'f', 'S'`

export async function checkDatabase(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ name: string; open: boolean }>(
    'select datname as name, datallowconn as open from pg_catalog.pg_database order by datname',
  )
  const found = rows.find(({ name }) => name === database)
  if (found?.open) return
  const there = rows.filter(({ name, open }) => open && !/^template[01]$/.test(name)).map(({ name }) => name)
  throw absent(`database "${database}"`, found ? 'it takes no connections' : nearNames(database, there))
}

/** Finds what was asked for in the database that `client` is connected to. Rejects with `precondition-failed`, naming what is near. */
export async function resolveSelection(
  client: pg.Client,
  database: string,
  selection: PartsSelection,
): Promise<ChosenParts> {
  if (selection.schema !== null) return { database, schema: await findSchema(client, selection.schema), tables: [] }
  const found: ChosenTable[] = []
  for (const written of selection.tables) found.push(await findTable(client, database, written))
  return { database, schema: null, tables: await withChildren(client, found) }
}

async function findSchema(client: pg.Client, written: string): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `select nspname as name from pg_catalog.pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'`,
  )
  const names = rows.map(({ name }) => name)
  // A schema's name has no parts, so a dot in it needs no quotes.
  const part = /^".+"$/.test(written) ? parseName(written).name : { text: written, quoted: false }
  const found = readings(part).find((name) => names.includes(name))
  if (found === undefined) throw absent(`schema "${written}"`, nearNames(written, names))
  return found
}

async function findTable(client: pg.Client, database: string, written: string): Promise<ChosenTable> {
  const wanted = parseName(written)
  const schemas = wanted.schema === null ? [null] : readings(wanted.schema)
  for (const schema of schemas) {
    for (const name of readings(wanted.name)) {
      const { rows } = await client.query<ChosenTable>(
        `${TABLES} and c.relname = $1 and ($2::text is null or n.nspname = $2) order by n.nspname`,
        [name, schema],
      )
      const [only] = rows
      if (rows.length === 1 && only) return only
      if (rows.length > 1) {
        throw new RegainError(
          'usage',
          `${rows.length} schemas of the database "${database}" have a table "${name}" at that moment. Nothing was restored.`,
          {
            hint: `Name the schema too: ${rows
              .slice(0, 8)
              .map((table) => tableName(table))
              .join(', ')}`,
          },
        )
      }
    }
  }
  const { rows } = await client.query<ChosenTable>(`${TABLES} order by n.nspname, c.relname`)
  throw absent(`table "${written}" in the database "${database}"`, nearNames(written, rows.map(tableName)))
}

const TABLES = `select c.oid::int8::text::float8 as oid, n.nspname as schema, c.relname as name
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in (${DUMPED_KINDS}) and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`

/** Rows that a query of a partitioned or inherited table gives lie in its children. */
async function withChildren(client: pg.Client, tables: ChosenTable[]): Promise<ChosenTable[]> {
  if (tables.length === 0) return []
  const { rows } = await client.query<ChosenTable>(
    `with recursive tree as (
       select oid from pg_catalog.unnest($1::pg_catalog.oid[]) as chosen (oid)
       union select i.inhrelid from pg_catalog.pg_inherits i join tree on i.inhparent = tree.oid
     ) ${TABLES} and c.oid in (select oid from tree) order by n.nspname, c.relname`,
    [tables.map(({ oid }) => oid)],
  )
  return rows
}

export function tableName({ schema, name }: Pick<ChosenTable, 'schema' | 'name'>): string {
  const part = (text: string): string => (/^[a-z_][a-z0-9_$]*$/.test(text) ? text : quoteIdentifier(text))
  return `${part(schema)}.${part(name)}`
}

/** In words for people. */
export function describeParts({ database, schema, tables }: ChosenParts): string {
  if (schema !== null) return `the schema ${schema} of the database ${database}`
  return tables.length === 0 ? `the database ${database}` : tables.map(tableName).join(', ')
}

/** Arguments of pg_dump that select exactly these; in quotes nothing in a name is a pattern. */
export function dumpArguments({ schema, tables }: ChosenParts): string[] {
  if (schema !== null) return ['--strict-names', `--schema=${quoteIdentifier(schema)}`]
  const names = tables.map((table) => `--table=${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`)
  return names.length === 0 ? [] : ['--strict-names', ...names]
}

function absent(what: string, near: string): RegainError {
  return new RegainError('precondition-failed', `There was no ${what} at that moment; ${near}. Nothing was restored.`, {
    hint: 'Correct the name; or, if it was made later or removed before, choose another moment with --at.',
  })
}
