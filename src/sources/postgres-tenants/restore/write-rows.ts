import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import { quoteIdentifier, quoteLiteral } from '../../postgres/protocol/connection-errors.ts'
import type { Table } from '../catalog.ts'
import { listOf, stageOf } from '../load-script.ts'
import { from } from '../queries.ts'
import type { Pair, Target } from './target.ts'

/**
 * From tables of this transaction's own (`pg_temp.regain_N`, filled already) into those of the database, in one statement: keys are checked
 * at its end (sql-set-constraints: those that are not deferrable at the end of the statement), so that tables may refer to
 * each other in any way. What the tenant has there and is in the point stays in place, is brought to what it was if it differs, and
 * nothing that refers to it notices; only what the point does not have is deleted.
 */
export async function writeRows(client: pg.Client, target: Target, overwrite: boolean): Promise<void> {
  const parts = target.pairs.flatMap((pair, index) =>
    pair.from.role === 'reference'
      ? [insertReferences(pair, index)]
      : overwrite
        ? replaceRows(pair, index, target)
        : [`i${index} as (${insertRows(pair, index)})`],
  )
  if (parts.length > 0) await client.query(`with ${parts.join(', ')} select 1`)
}

/**
 * Rows of others that refer to what would be deleted, or would get another value where they refer to: that would change or delete
 * them (ON DELETE, ON UPDATE), or fail. Rejects with `precondition-failed`. Of tables that nobody writes to meanwhile.
 */
export async function refuseToHurtOthers(client: pg.Client, target: Target): Promise<void> {
  const hurt: string[] = []
  for (const [index, pair] of target.pairs.entries()) {
    if (pair.from.role !== 'owned') continue
    for (const key of target.catalog.keys.filter(({ parent }) => parent === pair.to.oid)) {
      const child = target.catalog.tables.find(({ oid }) => oid === key.child)!
      const matches = key.parentColumns.map(
        (name, i) => `r.${quoteIdentifier(name)} ${key.operators[i]} c.${quoteIdentifier(key.columns[i]!)}`,
      )
      const there = target.queries.owned(pair.to.oid, (row) => `${row}.*`)
      const { rows } = await client.query<{ rows: number }>(
        `select count(*)::int8::float8 as rows from ${from(child)} c
         where exists (select from (${there}) r where ${matches.join(' and ')} and ${isGone(pair, index, 'r', key.parentColumns)})${isOthers(target, child)}`,
      )
      const count = rows[0]!.rows
      if (count > 0) hurt.push(`${count} rows of ${child.text} by ${key.name}`)
    }
  }
  if (hurt.length === 0) return
  throw new RegainError(
    'precondition-failed',
    `Rows that are not in the point refer to rows of this tenant that it does not have, or has otherwise, and would lose what they refer to: ${hurt.join(', ')}. Nothing was changed.`,
    { hint: 'Change or delete those first; or restore the tenant into another database and copy from it.' },
  )
}

/** Not of this tenant, or of a table that the point does not know. */
function isOthers(target: Target, child: Table): string {
  const isOwned = target.pairs.some(({ from: described, to }) => described.role === 'owned' && to.oid === child.oid)
  return isOwned ? ` and not ${isPlaceIn(target, child, 'c')}` : ''
}

function isPlaceIn({ queries }: Target, table: Table, row: string): string {
  const places = queries.owned(table.oid, (one) => `${one}.tableoid as relation, ${one}.ctid::text as place`)
  return `exists (select from (${places}) o where o.relation = ${row}.tableoid and o.place = ${row}.ctid::text)`
}

/**
 * Of the tenant there, and not in the point, or not with the same values in `also`. Without a key of the rows none is known
 * again: all of them are gone.
 */
function isGone({ from: described, to }: Pair, index: number, row: string, also: readonly string[] = []): string {
  const { key, columns } = described
  if (key === null) return 'true'
  const compared = [...key, ...also.filter((name) => !key.includes(name) && columns.some((one) => one.name === name))]
  return `not exists (select from pg_temp.${stageOf(index)} s where ${sameKey(to, compared, 's', row)})`
}

function replaceRows(pair: Pair, index: number, target: Target): string[] {
  const { from: described, to } = pair
  const isOurs = isPlaceIn(target, to, 'a')
  const table = from(to)
  const { key } = described
  const parts = [
    `d${index} as (delete from ${table} a where ${isOurs} and ${isGone(pair, index, 'a')} returning 1)`,
    // Asking for their number makes them go first: what takes their place may have their unique values.
    `n${index} as (select count(*) as deleted from d${index})`,
  ]
  const changeable = described.columns.filter(({ name }) => {
    const column = to.columns.find((one) => one.name === name)
    return column?.identity !== 'always' && !key?.includes(name)
  })
  if (key !== null && changeable.length > 0) {
    const names = changeable.map(({ name }) => quoteIdentifier(name))
    const row = (of: string) =>
      `row(${described.columns.map(({ name }) => `${of}.${quoteIdentifier(name)}`).join(', ')})::text`
    parts.push(
      `u${index} as (update ${table} a set (${names.join(', ')}) = row(${names.map((name) => `s.${name}`).join(', ')}) from pg_temp.${stageOf(index)} s
        where ${sameKey(to, key, 's', 'a')} and ${isOurs} and (select deleted from n${index}) >= 0 and ${row('a')} is distinct from ${row('s')})`,
    )
  }
  const isThere =
    key === null ? 'false' : `exists (select from ${table} a where ${sameKey(to, key, 's', 'a')} and ${isOurs})`
  parts.push(`i${index} as (${insertRows(pair, index)} where (select deleted from n${index}) >= 0 and not ${isThere})`)
  return parts
}

function insertRows({ from: described, to }: Pair, index: number): string {
  const names = listOf(described)
  return `insert into ${to.text} (${names}) overriding system value select ${names} from pg_temp.${stageOf(index)} s`
}

/** What is there of it, by any of its unique keys, stays as it is. */
function insertReferences(pair: Pair, index: number): string {
  return `i${index} as (${insertRows(pair, index)} on conflict do nothing)`
}

function sameKey(table: Table, key: readonly string[], left: string, right: string): string {
  return key
    .map((name) => {
      const equals = table.columns.find((column) => column.name === name)?.equals ?? '='
      return `${left}.${quoteIdentifier(name)} ${equals} ${right}.${quoteIdentifier(name)}`
    })
    .join(' and ')
}

/**
 * Sequences that give values to the columns which were written, set behind the largest of those. A sequence knows no
 * transaction: what was set stays, and leaves a gap at worst.
 */
export async function advanceSequences(client: pg.Client, { pairs }: Target): Promise<void> {
  for (const [index, { from: described, to }] of pairs.entries()) {
    const { rows } = await client.query<{ column: string; sequence: string; ascending: boolean }>(
      `select distinct a.attname::text as column, s.oid::regclass::text as sequence, q.seqincrement > 0 as ascending
       from pg_catalog.pg_attribute a
         join pg_catalog.pg_class s on s.relkind = 'S' and (
           exists (select from pg_catalog.pg_depend d where d.classid = 'pg_class'::regclass and d.objid = s.oid
             and d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i'))
           or exists (select from pg_catalog.pg_attrdef f join pg_catalog.pg_depend d on d.classid = 'pg_attrdef'::regclass
             and d.objid = f.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = s.oid where f.adrelid = a.attrelid and f.adnum = a.attnum))
         join pg_catalog.pg_sequence q on q.seqrelid = s.oid
       where a.attrelid = ${quoteLiteral(to.text)}::regclass and a.attname = any($1) and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)`,
      [described.columns.map(({ name }) => name)],
    )
    for (const { column, sequence, ascending } of rows) {
      const [extreme, beyond] = ascending ? ['max', '>'] : ['min', '<']
      await client.query(
        `select pg_catalog.setval(${quoteLiteral(sequence)}, v.value) from (select ${extreme}(s.${quoteIdentifier(column)})::int8 as value from pg_temp.${stageOf(index)} s) v
           join ${sequence} q on v.value ${beyond} q.last_value or (v.value = q.last_value and not q.is_called)`,
      )
    }
  }
}
