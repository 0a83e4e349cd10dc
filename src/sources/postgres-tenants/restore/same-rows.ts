import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'
import type { Table } from '../catalog.ts'
import { stageOf } from '../load-script.ts'
import type { Pair, Target } from './target.ts'

/** Whether the row is one of this tenant's, as the database is now. */
export function isPlaceIn({ queries }: Pick<Target, 'queries'>, table: Pick<Table, 'oid'>, row: string): string {
  const places = queries.owned(table.oid, (one) => `${one}.tableoid as relation, ${one}.ctid::text as place`)
  return `exists (select from (${places}) o where o.relation = ${row}.tableoid and o.place = ${row}.ctid::text)`
}

/** Of the tenant there, and not in the point. Without a key of the rows none is known again: all of them are. */
export function isGone({ from: described, to }: Pair, index: number, row: string): string {
  const { key } = described
  if (key === null) return 'true'
  return `not exists (select from pg_temp.${stageOf(index)} s where ${sameKey(to, key, 's', row)})`
}

/** In the point with another value in one of `columns`: to the letter, as keys look at it (ri_KeysEqual). */
export function isOther({ from: described, to }: Pair, index: number, columns: readonly string[], row: string): string {
  const { key } = described
  const known = columns.filter((name) => described.columns.some((column) => column.name === name))
  if (key === null || known.every((name) => key.includes(name))) return 'false'
  const values = (of: string) => known.map((name) => `${of}.${quoteIdentifier(name)}::text collate "C"`).join(', ')
  return `exists (select from pg_temp.${stageOf(index)} s where ${sameKey(to, key, 's', row)} and (${values('s')}) is distinct from (${values(row)}))`
}

export function sameKey(table: Table, key: readonly string[], left: string, right: string): string {
  return key
    .map((name) => {
      const equals = table.columns.find((column) => column.name === name)?.equals ?? '='
      return `${left}.${quoteIdentifier(name)} ${equals} ${right}.${quoteIdentifier(name)}`
    })
    .join(' and ')
}
