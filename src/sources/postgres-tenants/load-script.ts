import { quoteIdentifier } from '../postgres/protocol/connection-errors.ts'
import type { DescribedTable, TenantDescription } from './description.ts'

export const LOAD_PATH = 'load.sql'
export const HOW_TO_PATH = 'restore.txt'

/** In every point: whoever has the files and nothing else must get his data back. */
export const HOW_TO = `One tenant's rows of a PostgreSQL database. tenant.json says which tables and columns there are.
Into a database that has those tables (from a dump of the definitions, for example) and none of these rows:

  psql -X -f load.sql postgres://user@host:5432/database          # in this folder

All or nothing, in one transaction. Files in owned/ are the tenant's own rows. Those in reference/ are rows of nobody that
these refer to: what the database has of them stays as it is. Each file is what COPY ... FROM reads, in text format.
`

/** The same file stands for the psql of whoever reads it and for what Regain itself does: see restore/write-rows.ts. */
export function loadScript({ tables, encoding }: TenantDescription): string {
  const filled = tables.filter(({ rows }) => rows > 0)
  const lines = [
    '\\set ON_ERROR_STOP on',
    'begin;',
    'set local search_path = pg_catalog;',
    `set local client_encoding = ${encoding};`,
    "set local datestyle = iso; set local intervalstyle = postgres; set local timezone = 'UTC'; set local lc_monetary = 'C';",
    'set local xmloption = content; set local row_security = off;',
    ...filled.flatMap((table, index) => [
      `create temp table ${stageOf(index)} on commit drop as select ${listOf(table)} from only ${textOf(table)} with no data;`,
      // It has these columns, in this order. Not by name: a command of psql ends with its line, and a name may have an end of line in it.
      `\\copy pg_temp.${stageOf(index)} from '${table.file}'`,
    ]),
    // One statement: keys are checked at its end, so that tables may refer to each other.
    ...(filled.length === 0 ? [] : [`with ${filled.map(insertOf).join(',\n  ')}\nselect 1;`]),
    'commit;',
  ]
  return `${lines.join('\n')}\n`
}

export function stageOf(index: number): string {
  return `regain_${index}`
}

export function textOf({ schema, name }: Pick<DescribedTable, 'schema' | 'name'>): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`
}

export function listOf({ columns }: Pick<DescribedTable, 'columns'>): string {
  return columns.map(({ name }) => quoteIdentifier(name)).join(', ')
}

function insertOf(table: DescribedTable, index: number): string {
  const mode = table.role === 'reference' ? ' on conflict do nothing' : ''
  return `insert_${index} as (insert into ${textOf(table)} (${listOf(table)}) overriding system value select ${listOf(table)} from pg_temp.${stageOf(index)}${mode})`
}
