import { RegainError } from '../../errors.ts'
import type { PointReader } from '../contract.ts'
import { isTenantRules, type TenantRules } from './rules.ts'
import type { Encoding } from './session.ts'

export const DESCRIPTION_PATH = 'tenant.json'

/** What one point of one tenant holds: the file tenant.json in it. */
export interface TenantDescription {
  regain: 'tenant'
  format: 1
  tenant: string
  /** RFC 3339 UTC, by the server's clock: everything in it is of this moment. */
  at: string
  /** Of PostgreSQL: '18.4'. */
  version: string
  database: string
  encoding: Encoding
  rules: TenantRules
  tables: DescribedTable[]
  /** References of its rows to rows of other tenants, which are not in the point. */
  crossings: { table: string; key: string; to: string; rows: number }[]
}

export interface DescribedTable {
  schema: string
  name: string
  /** Its own rows; or rows of nobody that those refer to. */
  role: 'owned' | 'reference'
  /** COPY in text format, of `columns` in this order, sorted by `key`, or by all of the row where that is null. */
  file: string
  columns: { name: string; type: string }[]
  key: string[] | null
  rows: number
  bytes: number
  /** Of the file, hex. */
  sha256: string
}

export function nameOf({ schema, name }: Pick<DescribedTable, 'schema' | 'name'>): string {
  return `${schema}.${name}`
}

/** Rejects with `repository-damaged` if it is not what a backup writes. */
export async function readDescription(reader: PointReader): Promise<TenantDescription> {
  const text = (await reader.readFile(DESCRIPTION_PATH)).toString()
  try {
    const found: unknown = JSON.parse(text)
    if (isDescription(found)) return found
  } catch {
    // Not JSON: as below.
  }
  throw new RegainError(
    'repository-damaged',
    `The recovery point ${reader.point.id} does not say which tables it has in a form that this version knows.`,
    { hint: 'Use the version of Regain that made it, or restore its files into a directory.' },
  )
}

function isDescription(value: unknown): value is TenantDescription {
  const found = value as TenantDescription | null
  if (typeof found !== 'object' || found === null || found.regain !== 'tenant' || found.format !== 1) return false
  const isTable = (table: DescribedTable) =>
    [table.schema, table.name, table.file, table.sha256].every((text) => typeof text === 'string') &&
    ['owned', 'reference'].includes(table.role) &&
    Array.isArray(table.columns) &&
    table.columns.every(({ name, type }) => typeof name === 'string' && typeof type === 'string') &&
    (table.key === null || Array.isArray(table.key)) &&
    Number.isSafeInteger(table.rows)
  return (
    typeof found.tenant === 'string' &&
    typeof found.at === 'string' &&
    ['UTF8', 'SQL_ASCII'].includes(found.encoding) &&
    isTenantRules(found.rules) &&
    Array.isArray(found.tables) &&
    found.tables.every(isTable) &&
    Array.isArray(found.crossings)
  )
}
