import { tablePattern } from '../postgres-dump/tables.ts'
import type { Table } from './catalog.ts'

/** What a person says of whose rows are whose. Kept with each point, so that a restore goes by the same rules. */
export interface TenantRules {
  /** The table that has the tenants, as [SCHEMA.]TABLE, and its column that names them. */
  table: string
  key: string
  /** Columns that name the tenant in any other table that has one of them. */
  columns: readonly string[]
  /** For tables where several foreign keys lead to a tenant: the columns of the one that decides. */
  owners: Readonly<Record<string, readonly string[]>>
  /** Tables that belong to nobody: [SCHEMA.]TABLE with * and ?. */
  shared: readonly string[]
  /** Tables that are left out. */
  exclude: readonly string[]
}

/** Throws `config-invalid` for what names no tables. */
export function checkRules({ table, owners, shared, exclude }: TenantRules): void {
  for (const written of [table, ...Object.keys(owners), ...shared, ...exclude]) tablePattern(written)
}

/** Whether any of the patterns means the table. */
export function meets(patterns: readonly string[]): (table: Pick<Table, 'schema' | 'name'>) => boolean {
  const tests = patterns.map(tablePattern)
  return (table) => tests.some((test) => test(table))
}

export function isTenantRules(value: unknown): value is TenantRules {
  const rules = value as TenantRules | null
  const areTexts = (list: unknown) => Array.isArray(list) && list.every((item) => typeof item === 'string')
  return (
    typeof rules === 'object' &&
    rules !== null &&
    typeof rules.table === 'string' &&
    typeof rules.key === 'string' &&
    areTexts(rules.columns) &&
    areTexts(rules.shared) &&
    areTexts(rules.exclude) &&
    typeof rules.owners === 'object' &&
    rules.owners !== null &&
    Object.values(rules.owners).every(areTexts)
  )
}
