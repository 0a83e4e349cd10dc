import type pg from 'pg'
import { RegainError } from '../../errors.ts'

/** A table or partition of a database, as far as its dump must know it. */
export interface DumpTable {
  oid: number
  schema: string
  name: string
  /** SCHEMA.TABLE, quoted as SQL needs it. */
  text: string
  isPartitioned: boolean
  unlogged: boolean
  /** Of an extension: it comes back with that. */
  extended: boolean
  bytes: number
  /** Of the tables that it is a partition or child of. */
  parents: number[]
}

export async function listTables(client: pg.Client): Promise<DumpTable[]> {
  const { rows } = await client.query<DumpTable>(
    `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as text,
       c.relkind = 'p' as "isPartitioned", c.relpersistence = 'u' as unlogged,
       exists (select from pg_catalog.pg_depend d
         where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e') as extended,
       -- By the statistics: the exact size of a table that somebody has for himself would have to be waited for.
       ((c.relpages + coalesce(t.relpages, 0))::float8 * pg_catalog.current_setting('block_size')::float8) as bytes,
       array(select i.inhparent::int8::float8 from pg_catalog.pg_inherits i where i.inhrelid = c.oid) as parents
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
     where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     order by c.oid`,
  )
  return rows
}

/** `[SCHEMA.]TABLE`, where * is any text and ? any character; a name with a dot, * or ? of its own in double quotes. */
export function tablePattern(written: string): (table: Pick<DumpTable, 'schema' | 'name'>) => boolean {
  const parts = [...written.matchAll(/(?:^|\.)(?:"((?:[^"]|"")+)"|([^".]+))/gy)]
  const length = parts.reduce((sum, [text]) => sum + text.length, 0)
  const [first, second] = parts.map(([, quoted, plain]) =>
    quoted === undefined ? wildcard(plain ?? '') : exactly(quoted.replaceAll('""', '"')),
  )
  if (!first || parts.length > 2 || length !== written.length || written.startsWith('.')) {
    throw new RegainError(
      'config-invalid',
      `"${written}" names no tables: write [SCHEMA.]TABLE, such as audit.* or sessions.`,
    )
  }
  return second ? ({ schema, name }) => first.test(schema) && second.test(name) : ({ name }) => first.test(name)
}

function wildcard(text: string): RegExp {
  const source = text.replace(/[\\^$.|+()[\]{}*?]/g, (character) =>
    character === '*' ? '.*' : character === '?' ? '.' : `\\${character}`,
  )
  return new RegExp(`^(?:${source})$`, 's')
}

function exactly(text: string): RegExp {
  return new RegExp(`^${text.replace(/[\\^$.|+()[\]{}*?]/g, '\\$&')}$`, 's')
}

/** Those that `isMeant` names, with their partitions and children, whose rows are theirs. */
export function withDescendants(tables: readonly DumpTable[], isMeant: (table: DumpTable) => boolean): Set<DumpTable> {
  const chosen = new Set(tables.filter(isMeant))
  const oids = new Set([...chosen].map(({ oid }) => oid))
  for (let grown = true; grown; ) {
    grown = false
    for (const table of tables) {
      if (chosen.has(table) || !table.parents.some((parent) => oids.has(parent))) continue
      chosen.add(table)
      oids.add(table.oid)
      grown = true
    }
  }
  return chosen
}
