import type pg from 'pg'
import { isRegainError } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import { chooseServer } from '../postgres/protocol/choose-server.ts'
import { withSql } from '../postgres/protocol/connection.ts'
import { quoteIdentifier } from '../postgres/protocol/connection-errors.ts'
import { type ConnectionConfig, describeConnection } from '../postgres/protocol/connection-url.ts'
import { readServerFacts, type ServerFacts } from '../postgres/server/server-facts.ts'
import type { TenantsJob } from './backup.ts'
import { readCatalog, type Table } from './catalog.ts'
import { planTenants, type TenantPlan } from './plan.ts'
import { listTenants, settle, tablesOf } from './session.ts'

const NAMED = 8

/** What would keep tenants' points or their restore from working, with a fix for each. Changes nothing, and waits for no lock. */
export async function checkTenants(job: TenantsJob, signal: AbortSignal): Promise<Finding[]> {
  try {
    const config = await chooseServer(job.servers, signal)
    const facts = await readServerFacts(config, signal)
    const where = `${describeConnection(config)} answers: PostgreSQL ${facts.version}${facts.standby ? ', a standby' : ''}.`
    const findings = await withSql(config, signal, async (client) => {
      await settle(client)
      const catalog = await readCatalog(client)
      const planned = planTenants(catalog, job.rules)
      if ('plan' in planned) return checkPlan(client, planned.plan, config, facts)
      return planned.problems.map(
        (message): Finding => ({
          severity: 'error',
          code: 'tenants',
          message,
          fix: 'Correct tenants: of this source.',
        }),
      )
    })
    return [{ severity: 'ok', code: 'connection', message: where }, ...findings]
  } catch (error) {
    if (!isRegainError(error) || error.code === 'interrupted') throw error
    return [{ severity: 'error', code: 'connection', message: error.message, fix: error.hint }]
  }
}

async function checkPlan(
  client: pg.Client,
  plan: TenantPlan,
  config: ConnectionConfig,
  { standby }: ServerFacts,
): Promise<Finding[]> {
  const role = quoteIdentifier(config.user)
  const tables = tablesOf(plan)
  const unreadable = tables.filter(({ isReadable }) => !isReadable)
  if (unreadable.length > 0)
    return [
      {
        severity: 'error',
        code: 'read-rights',
        message: `${config.user} may not read ${some(unreadable)}.`,
        fix: `GRANT SELECT ON ALL TABLES IN SCHEMA … TO ${role};`,
      },
    ]
  const findings: Finding[] = []
  const guarded = await guardedTables(client, tables)
  if (guarded.length > 0)
    findings.push({
      severity: 'error',
      code: 'row-security',
      message: `Row security would keep rows of ${some(guarded)} from ${config.user}.`,
      fix: `ALTER ROLE ${role} BYPASSRLS;`,
    })
  const unlogged = tables.filter(({ isUnlogged }) => isUnlogged)
  if (standby && unlogged.length > 0)
    findings.push({
      severity: 'error',
      code: 'unlogged',
      message: `A standby has no rows of ${some(unlogged)}, which are unlogged.`,
      fix: 'Read from the primary, or name them under exclude:.',
    })
  const slow = await tablesWithoutIndex(client, plan)
  if (slow.length > 0)
    findings.push({
      severity: 'warning',
      code: 'index',
      message: `${some(slow)} has no index on what leads to its tenant: all of it is read again for each tenant.`,
      fix: `CREATE INDEX ON ${slow[0]!.text} (…); on the columns of its foreign key`,
    })
  if (findings.some(({ severity }) => severity === 'error')) return findings
  const tenants = await listTenants(client, plan)
  const { owned, references, outside } = plan
  const rest = outside.length === 0 ? '' : ` In no point: ${some(outside)}.`
  const message = `${tenants.length} tenants; ${owned.length} tables have rows of theirs, and of ${references.length} those go along that they refer to.${rest}`
  return [{ severity: 'ok', code: 'tenants', message }, ...findings]
}

function some(tables: readonly Pick<Table, 'text'>[]): string {
  const names = tables.slice(0, NAMED).map(({ text }) => text)
  return names.join(', ') + (tables.length > NAMED ? ` and ${tables.length - NAMED} more` : '')
}

async function guardedTables(client: pg.Client, tables: readonly Table[]): Promise<Table[]> {
  const { rows } = await client.query<{ oid: number }>(
    `select c.oid::int8::float8 as oid from pg_catalog.pg_class c
     where c.oid = any($1::oid[]) and pg_catalog.row_security_active(c.oid)`,
    [tables.map(({ oid }) => oid)],
  )
  return tables.filter(({ oid }) => rows.some((row) => row.oid === oid))
}

async function tablesWithoutIndex(client: pg.Client, plan: TenantPlan): Promise<Table[]> {
  const { rows } = await client.query<{ oid: number; columns: string[] }>(
    `select i.indrelid::int8::float8 as oid, array(select a.attname::text from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, at)
       join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum order by k.at) as columns
     from pg_catalog.pg_index i where i.indisvalid and i.indpred is null and i.indrelid = any($1::oid[])`,
    [plan.owned.map(({ table }) => table.oid)],
  )
  const isServed = (oid: number, columns: readonly string[]) =>
    rows.some((index) => index.oid === oid && columns.includes(index.columns[0] ?? ''))
  return plan.owned.flatMap(({ table, by }) => {
    const ways = by.kind === 'column' ? [[by.column.name]] : by.keys.map(({ columns }) => columns)
    return ways.every((columns) => isServed(table.oid, columns)) ? [] : [table]
  })
}
