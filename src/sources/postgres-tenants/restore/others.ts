import { isDeepStrictEqual } from 'node:util'
import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'
import { type ReferringKey, readReferringKeys } from '../catalog.ts'
import type { TenantDescription } from '../description.ts'
import { planTenants } from '../plan.ts'
import { from, TenantQueries } from '../queries.ts'
import type { TenantRules } from '../rules.ts'
import { isGone, isOther, isPlaceIn } from './same-rows.ts'
import type { Target } from './target.ts'
import type { Written } from './write-rows.ts'

/**
 * What stands between a restore and rows that are not the tenant's. First by looking: what refers to rows that are to be
 * deleted or changed. Then, before the commit, by what the server has counted: whatever else was changed, by whatever means.
 */

/** Keeps everybody from writing to what is replaced and to what refers to it, and looks. Rejects with `precondition-failed`. */
export async function refuseToHurtOthers(client: pg.Client, target: Target): Promise<void> {
  const replaced = [...target.pairs.entries()].filter(([, { from }]) => from.role === 'owned')
  const keys = new Map<number, ReferringKey[]>()
  for (const [index, { to }] of replaced) keys.set(index, await readReferringKeys(client, to))
  const children = [...keys.values()].flat().map(({ childText }) => childText)
  for (const text of new Set([...replaced.map(([, { to }]) => to.text), ...children]))
    await client.query(`lock table ${text} in share row exclusive mode`)
  const hurt: string[] = []
  for (const [index, pair] of replaced) {
    for (const key of keys.get(index)!) {
      const columns = key.parentColumns.map(
        (name, i) => `r.${quoteIdentifier(name)} ${key.operators[i]} c.${quoteIdentifier(key.columns[i]!)}`,
      )
      const there = target.queries.owned(pair.to.oid, (row) => `${row}.*`)
      const isHurt = `(${isGone(pair, index, 'r')} or ${isOther(pair, index, key.parentColumns, 'r')})`
      const { rows } = await client.query<{ rows: number }>(
        `select count(*)::int8::float8 as rows from ${key.childText} c
         where exists (select from (${there}) r where ${columns.join(' and ')} and ${isHurt})${isOthers(target, key)}`,
      )
      const count = rows[0]!.rows
      if (count > 0) hurt.push(`${count} rows of ${key.childText.replace(/^only /, '')} by ${key.name}`)
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
function isOthers(target: Target, { childTable }: ReferringKey): string {
  const isOwned = target.pairs.some(({ from, to }) => from.role === 'owned' && to.oid === childTable)
  return isOwned ? ` and not ${isPlaceIn(target, { oid: childTable }, 'c')}` : ''
}

/**
 * A point goes by the rules of its time. What is to be replaced must be the tenant's by the rules of today as well: they may have
 * been corrected because they took others' rows for its. Rejects with `precondition-failed`.
 */
export async function refuseOtherRules(
  client: pg.Client,
  target: Target,
  { tenant, rules: then }: TenantDescription,
  now: TenantRules,
): Promise<void> {
  if (isDeepStrictEqual(then, now)) return
  const hint =
    'Restore the tenant into another database, or into a directory. If the rules of the configuration are the wrong ones, correct those.'
  const planned = planTenants(target.catalog, now)
  if ('problems' in planned)
    throw new RegainError(
      'precondition-failed',
      `The rules of the configuration are not those of the point, and can't tell there whose rows are whose: ${planned.problems.join(' ')} Nothing was changed.`,
      { hint },
    )
  const queries = new TenantQueries(planned.plan, tenant)
  const owned = new Set(planned.plan.owned.map(({ table }) => table.oid))
  const others: string[] = []
  for (const { table } of target.existing.values()) {
    const isStill = owned.has(table.oid) ? isPlaceIn({ queries }, table, 'a') : 'false'
    const { rows } = await client.query<{ rows: number }>(
      `select count(*)::int8::float8 as rows from ${from(table)} a where ${isPlaceIn(target, table, 'a')} and not ${isStill}`,
    )
    if (rows[0]!.rows > 0) others.push(`${rows[0]!.rows} in ${table.text}`)
  }
  if (others.length === 0) return
  throw new RegainError(
    'precondition-failed',
    `Rows that were this tenant's by the rules of the point are not by those of the configuration: ${others.join(', ')}. Nothing was changed.`,
    { hint },
  )
}

/** Rows that this transaction has changed and deleted so far, by oid of their table, as the server counts them. */
export async function readChanges(client: pg.Client): Promise<Written> {
  // Each is counted when it is done, also by triggers, rules and keys (pg_stat_xact_all_tables).
  const { rows } = await client.query<{ oid: number; updated: number; deleted: number }>(
    `select coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid)::int8::float8 as oid,
       pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid))::float8 as updated,
       pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid))::float8 as deleted
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
     group by 1 having pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)) > 0`,
  )
  return new Map(rows.map(({ oid, ...counts }) => [oid, counts]))
}

/** Rejects with `verification-failed` if more was changed than was meant to be. */
export async function refuseOtherChanges(client: pg.Client, before: Written, meant: Written): Promise<void> {
  const excess: string[] = []
  for (const [oid, { updated, deleted }] of await readChanges(client)) {
    const [was, wanted] = [before.get(oid), meant.get(oid)]
    const count =
      updated + deleted - (was?.updated ?? 0) - (was?.deleted ?? 0) - (wanted?.updated ?? 0) - (wanted?.deleted ?? 0)
    if (count <= 0) continue
    const { rows } = await client.query<{ name: string }>('select $1::oid::regclass::text as name', [oid])
    excess.push(`${count} in ${rows[0]!.name}`)
  }
  if (excess.length === 0) return
  throw new RegainError(
    'verification-failed',
    `More rows were changed or deleted than the restore did itself: ${excess.join(', ')}. A trigger, a rule or a key there did it. Everything was taken back.`,
    {
      hint: 'Restore as a role that owns the tables: then triggers are held back. Or restore into another database and copy from it.',
    },
  )
}
