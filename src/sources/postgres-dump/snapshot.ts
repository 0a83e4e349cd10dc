import type pg from 'pg'
import { sqlStateOf } from '../postgres/protocol/connection-errors.ts'
import { type DumpTable, listTables } from './tables.ts'

/** One moment of one database, held for as long as its session's transaction lasts. */
export interface Snapshot {
  /** For pg_dump --snapshot. */
  id: string
  /** RFC 3339 UTC, by the server's clock. */
  time: string
  encoding: string
  tables: DumpTable[]
}

/** How long a table may be somebody else's alone. pg_dump gets the same. */
export const LOCK_WAIT_MS = 300_000
const LOCKS_AT_A_TIME = 500
const TRIES = 5

/**
 * Locks all tables against change of their definitions and against TRUNCATE, and **then** takes the snapshot: the other way
 * round, as pg_dump by itself does it, a table that is truncated or rewritten in between is read as empty, since the server
 * does not keep what an older snapshot would see of it (documentation, mvcc-caveats). LOCK before the first query does not
 * take a snapshot (documentation, sql-lock). Rows can be read and written by everybody meanwhile.
 */
export async function holdSnapshot(client: pg.Client): Promise<Snapshot> {
  for (let tries = 1; ; tries++) {
    const before = lockable(await listTables(client))
    try {
      await client.query(
        `begin isolation level repeatable read read only; set local lock_timeout = ${LOCK_WAIT_MS}; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0`,
      )
      for (let at = 0; at < before.length; at += LOCKS_AT_A_TIME) {
        const names = before.slice(at, at + LOCKS_AT_A_TIME).map(({ text }) => `only ${text}`)
        await client.query(`lock table ${names.join(', ')} in access share mode`)
      }
    } catch (error) {
      await client.query('rollback')
      // 42P01, 3F000: dropped since it was listed.
      if (tries < TRIES && ['42P01', '3F000'].includes(sqlStateOf(error))) continue
      throw error
    }
    const { rows } = await client.query<{ id: string; time: Date; encoding: string }>(
      `select pg_catalog.pg_export_snapshot() as id, pg_catalog.clock_timestamp() as time, pg_catalog.current_setting('server_encoding') as encoding`,
    )
    const { id, time, encoding } = rows[0]!
    const tables = await listTables(client)
    const locked = new Set(before.map(({ oid }) => oid))
    // One that was made meanwhile is not locked: once more. pg_dump locks the last of those who make tables all the time.
    if (tries === TRIES || lockable(tables).every(({ oid }) => locked.has(oid)))
      return { id, time: time.toISOString(), encoding, tables }
    await client.query('rollback')
  }
}

/** Those of extensions belong to others: pg_dump does not read them. */
function lockable(tables: readonly DumpTable[]): DumpTable[] {
  return tables.filter(({ extended }) => !extended)
}
