import type pg from 'pg'
import { quoteIdentifier, quoteLiteral } from '../../postgres/protocol/connection-errors.ts'
import { listOf, stageOf } from '../load-script.ts'
import { from } from '../queries.ts'
import { isGone, isPlaceIn, sameKey } from './same-rows.ts'
import type { Pair, Target } from './target.ts'

/** How many rows were changed and deleted, by oid of their table. What was written anew is not counted. */
export type Written = Map<number, { updated: number; deleted: number }>

/**
 * From tables of this transaction's own (`pg_temp.regain_N`, filled already) into those of the database, in one statement: keys are checked
 * at its end (sql-set-constraints: those that are not deferrable at the end of the statement), so that tables may refer to
 * each other in any way. What the tenant has there and is in the point stays in place, is brought to what it was if it differs, and
 * nothing that refers to it notices; only what the point does not have is deleted.
 */
export async function writeRows(client: pg.Client, target: Target, overwrite: boolean): Promise<Written> {
  const parts = target.pairs.flatMap((pair, index) =>
    pair.from.role === 'reference'
      ? [insertReferences(pair, index)]
      : overwrite
        ? replaceRows(pair, index, target)
        : [`i${index} as (${insertRows(pair, index)})`],
  )
  const written: Written = new Map()
  if (parts.length === 0) return written
  const replaced = overwrite ? [...target.pairs.entries()].filter(([, { from }]) => from.role === 'owned') : []
  const counts = replaced.flatMap(([index, pair]) => [
    `(select deleted from n${index})::float8 as n${index}`,
    `${isChanging(pair) ? `(select count(*) from u${index})` : '0'}::float8 as u${index}`,
  ])
  const { rows } = await client.query<Record<string, number>>(
    `with ${parts.join(', ')} select ${['1 as one', ...counts].join(', ')}`,
  )
  for (const [index, { to }] of replaced)
    written.set(to.oid, { updated: rows[0]![`u${index}`]!, deleted: rows[0]![`n${index}`]! })
  return written
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
  if (key !== null && isChanging(pair)) {
    const names = changeableOf(pair).map(({ name }) => quoteIdentifier(name))
    const row = (of: string) =>
      `row(${described.columns.map(({ name }) => `${of}.${quoteIdentifier(name)}`).join(', ')})::text`
    parts.push(
      `u${index} as (update ${table} a set (${names.join(', ')}) = row(${names.map((name) => `s.${name}`).join(', ')}) from pg_temp.${stageOf(index)} s
        where ${sameKey(to, key, 's', 'a')} and ${isOurs} and (select deleted from n${index}) >= 0 and ${row('a')} is distinct from ${row('s')} returning 1)`,
    )
  }
  const isThere =
    key === null ? 'false' : `exists (select from ${table} a where ${sameKey(to, key, 's', 'a')} and ${isOurs})`
  parts.push(`i${index} as (${insertRows(pair, index)} where (select deleted from n${index}) >= 0 and not ${isThere})`)
  return parts
}

function isChanging(pair: Pair): boolean {
  return pair.from.key !== null && changeableOf(pair).length > 0
}

function changeableOf({ from: { columns, key }, to }: Pair): { name: string }[] {
  return columns.filter(({ name }) => {
    const column = to.columns.find((one) => one.name === name)
    return column?.identity !== 'always' && !key?.includes(name)
  })
}

function insertRows({ from: described, to }: Pair, index: number): string {
  const names = listOf(described)
  return `insert into ${to.text} (${names}) overriding system value select ${names} from pg_temp.${stageOf(index)} s`
}

/** What is there of it, by any of its unique keys, stays as it is. */
function insertReferences(pair: Pair, index: number): string {
  return `i${index} as (${insertRows(pair, index)} on conflict do nothing)`
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
