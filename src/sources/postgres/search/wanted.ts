import type { Loss } from './findings.ts'

/** What is looked for. Names are compared exactly: PostgreSQL keeps them in lower case unless they were quoted. */
export interface Wanted {
  /** Null: any. */
  database: string | null
  schema: string | null
  table: string | null
  /** The fewest rows that count as a mass delete, or update. */
  rows: number
  /** Whether updates are looked for. */
  updates: boolean
}

export function matches(loss: Loss, wanted: Wanted): boolean {
  if (wanted.database !== null && loss.database !== wanted.database) return false
  // A dropped database took all its tables along.
  if (loss.kind === 'drop-database') return true
  if (wanted.table !== null && loss.table !== wanted.table) return false
  if (wanted.schema !== null && loss.schema !== wanted.schema) return false
  if (loss.kind === 'update' && !wanted.updates) return false
  return loss.rows === null || loss.rows >= wanted.rows
}
