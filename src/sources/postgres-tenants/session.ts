import type pg from 'pg'
import { RegainError } from '../../errors.ts'
import { sqlStateOf } from '../postgres/protocol/connection-errors.ts'
import { type Catalog, readCatalog, type Table } from './catalog.ts'
import { planTenants, type TenantPlan } from './plan.ts'
import { from } from './queries.ts'
import type { TenantRules } from './rules.ts'

/** How long a table may be somebody else's alone. */
const LOCK_WAIT_MS = 300_000
const LOCKS_AT_A_TIME = 500
const TRIES = 5

/** Of the text that rows are read and written as. */
export type Encoding = 'UTF8' | 'SQL_ASCII'

/**
 * Values as text that is the same on every server and keeps all of them, as pg_dump asks for it. Money is written with two
 * digits after the point wherever it is read again. Row security fails instead of hiding rows. Only pg_catalog is searched,
 * so that nobody's operators take the place of the server's.
 */
export async function settle(client: pg.Client): Promise<Encoding> {
  const { rows } = await client.query<{ encoding: string }>(
    `select pg_catalog.current_setting('server_encoding') as encoding`,
  )
  // SQL_ASCII holds bytes of any encoding: they pass as they are.
  const encoding: Encoding = rows[0]?.encoding === 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8'
  await client.query(
    `set search_path = pg_catalog; set client_encoding = ${encoding}; set standard_conforming_strings = on; set datestyle = iso;
     set intervalstyle = postgres; set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = hex; set lc_monetary = 'C';
     set xmloption = content; set row_security = off; set jit = off; set synchronize_seqscans = off;
     select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings where name = 'transaction_timeout';
     set lock_timeout = ${LOCK_WAIT_MS}; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0`,
  )
  return encoding
}

export interface TenantSnapshot {
  catalog: Catalog
  plan: TenantPlan
  /** RFC 3339 UTC, by the server's clock. */
  time: string
}

/**
 * One moment of all that the rules reach, until the transaction ends. Locks first, and **then** the snapshot: see
 * holdSnapshot of postgres-dump. What is made or changed in between is noticed, and it begins anew.
 */
export async function holdTenants(client: pg.Client, rules: TenantRules): Promise<TenantSnapshot> {
  for (let tries = 1; ; tries++) {
    const before = planOrFail(await readCatalog(client), rules)
    const tables = tablesOf(before)
    await client.query('begin isolation level repeatable read read only')
    try {
      for (let at = 0; at < tables.length; at += LOCKS_AT_A_TIME) {
        const names = tables
          .slice(at, at + LOCKS_AT_A_TIME)
          .map(({ text, isPartitioned }) => (isPartitioned ? text : `only ${text}`))
        await client.query(`lock table ${names.join(', ')} in access share mode`)
      }
      const { rows } = await client.query<{ time: Date }>('select pg_catalog.clock_timestamp() as time')
      const catalog = await readCatalog(client)
      const plan = planOrFail(catalog, rules)
      if (describe(plan) === describe(before)) return { catalog, plan, time: rows[0]!.time.toISOString() }
    } catch (error) {
      // A connection that broke has no transaction any more.
      await client.query('rollback').catch(() => undefined)
      // 42P01, 3F000: dropped since the plan was made.
      if (tries < TRIES && ['42P01', '3F000'].includes(sqlStateOf(error))) continue
      throw error
    }
    await client.query('rollback')
    if (tries < TRIES) continue
    throw new RegainError('source-unavailable', 'The tables change faster than they can be locked.', {
      hint: 'Try again when the definitions of tables are not being changed.',
    })
  }
}

export function planOrFail(catalog: Catalog, rules: TenantRules): TenantPlan {
  const planned = planTenants(catalog, rules)
  if ('plan' in planned) return planned.plan
  throw new RegainError('source-unsuitable', `Whose rows are whose can't be told: ${planned.problems.join(' ')}`, {
    hint: 'Correct tenants: of this source, or the database.',
  })
}

export function tablesOf({ owned, references }: TenantPlan): Table[] {
  const byOid = new Map([...owned, ...references].map(({ table }) => [table.oid, table]))
  return [...byOid.values()]
}

/** The tenants that there are, as text, sorted; those of which one is told to be equal to another by its type count once. */
export async function listTenants(client: pg.Client, { root }: TenantPlan): Promise<string[]> {
  const column = `"${root.by.column.name.replaceAll('"', '""')}"`
  const { rows } = await client.query<{ tenant: string }>(
    `select pg_catalog.min(a.${column}::text collate "C") as tenant from ${from(root.table)} a
     where a.${column} is not null group by a.${column} order by 1`,
  )
  return rows.map(({ tenant }) => tenant)
}

function describe({ owned, references }: TenantPlan): string {
  return JSON.stringify([owned, references])
}
