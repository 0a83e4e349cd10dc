import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import { type Catalog, readCatalog, type Table } from '../catalog.ts'
import { type DescribedTable, nameOf, type TenantDescription } from '../description.ts'
import type { TenantPlan } from '../plan.ts'
import { planTenants } from '../plan.ts'
import { TenantQueries } from '../queries.ts'

/** The database that a tenant is brought back into, as far as the restore must heed it. */
export interface Target {
  catalog: Catalog
  plan: TenantPlan
  queries: TenantQueries
  /** Each table of the point that has rows, and the one that takes them. */
  pairs: Pair[]
  /** Rows of the tenant that are there now, by oid of their tables; only tables that have any. */
  existing: Map<number, { table: Table; rows: number }>
  /** What is otherwise than in the point and does not keep its rows from being brought back, for people. */
  differences: string[]
}

export interface Pair {
  from: DescribedTable
  to: Table
}

/** Rejects with `precondition-failed` if the tables there can't take the rows, naming each reason. Changes nothing. */
export async function readTarget(client: pg.Client, description: TenantDescription, where: string): Promise<Target> {
  const catalog = await readCatalog(client)
  const problems: string[] = []
  const differences: string[] = []
  const pairs = description.tables.flatMap((from) => {
    const to = catalog.tables.find(({ schema, name }) => schema === from.schema && name === from.name)
    if (to !== undefined) {
      compareColumns(from, to, problems, differences)
      return [{ from, to }]
    }
    if (from.rows > 0) problems.push(`There is no table ${nameOf(from)}.`)
    return []
  })
  const planned = planTenants(catalog, description.rules)
  if ('problems' in planned) problems.push(...planned.problems)
  else {
    const owned = new Set(planned.plan.owned.map(({ table }) => table.oid))
    for (const { from, to } of pairs)
      if (from.role === 'owned' && from.rows > 0 && !owned.has(to.oid))
        problems.push(`Nothing leads from ${nameOf(from)} to a tenant there, as it did when the point was taken.`)
  }
  if (problems.length > 0 || 'problems' in planned) {
    throw new RegainError(
      'precondition-failed',
      `The tables in ${where} can't take what the point holds. ${problems.join(' ')} Nothing was changed.`,
      { hint: 'Bring the definitions there to where they were, or restore the files into a directory and adapt them.' },
    )
  }
  const { plan } = planned
  const queries = new TenantQueries(plan, description.tenant)
  const existing = await countExisting(client, plan, queries)
  for (const { table } of existing.values())
    if (!pairs.some(({ from, to }) => to.oid === table.oid && from.role === 'owned'))
      differences.push(`${table.text} has rows of this tenant, and the point does not know the table: they stay.`)
  return {
    catalog,
    plan,
    queries,
    pairs: pairs.filter(({ from }) => from.rows > 0 || from.role === 'owned'),
    existing,
    differences,
  }
}

async function countExisting(client: pg.Client, plan: TenantPlan, queries: TenantQueries): Promise<Target['existing']> {
  const existing: Target['existing'] = new Map()
  for (const { table } of plan.owned) {
    const { rows } = await client.query<{ rows: number }>(
      `select count(*)::int8::float8 as rows from (${queries.owned(table.oid, () => '1 as one')}) r`,
    )
    const count = rows[0]!.rows
    if (count > 0) existing.set(table.oid, { table, rows: count })
  }
  return existing
}

function compareColumns(from: DescribedTable, to: Table, problems: string[], differences: string[]): void {
  if (from.rows === 0) return
  for (const { name, type } of from.columns) {
    const column = to.columns.find((one) => one.name === name)
    if (column === undefined) problems.push(`${to.text} has no column ${name} (${type}).`)
    else if (column.isGenerated) problems.push(`The column ${name} of ${to.text} is computed there.`)
    else if (column.type !== type)
      differences.push(
        `the column ${name} of ${to.text} is ${column.type}, and was ${type}: rows that do not come back as they were end the restore.`,
      )
  }
  for (const column of to.columns) {
    if (column.isGenerated || from.columns.some(({ name }) => name === column.name)) continue
    if (column.notNull && !column.hasDefault && column.identity === '')
      problems.push(`The column ${column.name} of ${to.text} is new, may not be null, and has no default.`)
    else differences.push(`the column ${column.name} of ${to.text} is new: it gets its default.`)
  }
}
