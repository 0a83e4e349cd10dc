import type pg from 'pg'
import { throwIfInterrupted } from '../../../errors.ts'
import type { DatabaseFingerprint, Fingerprint } from '../../../model.ts'
import { withSql } from '../protocol/connection.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import { type DatabaseTable, readDatabase } from './read-database.ts'

export interface TakeFingerprint {
  /** Its database is only where the others are asked for. */
  config: ConnectionConfig
  signal: AbortSignal
  now(): number
  /** For all databases together. */
  maxMs?: number
  /** Databases and tables of an earlier fingerprint, which are looked at again. Null: all, and their largest. */
  like?: Fingerprint | null
  isLeftOut?(table: DatabaseTable): boolean
}

/** A backup is not to be held up by it, nor the server by its reading. */
export const MAX_FINGERPRINT_MS = 30_000
/** Of all databases together, as long as each has at least a few. A point is read each time points are listed. */
const MAX_COUNTS = 1000
const MIN_COUNTS_EACH = 10

export function countsEach(databases: number): number {
  return Math.max(MIN_COUNTS_EACH, Math.floor(MAX_COUNTS / Math.max(1, databases)))
}

/**
 * Looks at all databases of a server, one after the other, each in one snapshot. One that cannot be looked at, or for which
 * no time is left, says so. Changes nothing. Rejects if the server cannot be asked at all, or when interrupted.
 */
export async function takeFingerprint(request: TakeFingerprint): Promise<Fingerprint> {
  const { config, signal, now, maxMs = MAX_FINGERPRINT_MS, like = null } = request
  const endMs = now() + maxMs
  const leftMs = () => endMs - now()
  const { names, at, lsn } = await withSql(config, signal, findDatabases)
  const wanted = like === null ? names : names.filter((name) => like.databases.some((one) => one.name === name))
  const databases: DatabaseFingerprint[] = []
  for (const name of wanted) {
    throwIfInterrupted(signal)
    const tables = like?.databases.find((one) => one.name === name)?.counts.map(({ table }) => table) ?? null
    const maxCounts = tables?.length ?? countsEach(wanted.length)
    const read = { leftMs, maxCounts, tables, isLeftOut: request.isLeftOut ?? (() => false) }
    databases.push(
      leftMs() <= 0
        ? withoutLook(name, 'no time was left for it')
        : await lookAt({ ...config, database: name }, signal, (client) => readDatabase(client, name, read)),
    )
  }
  return { at, lsn, databases }
}

/** One database in a snapshot of its own. What keeps it from being looked at is its `problem`. */
export async function lookAt(
  config: ConnectionConfig,
  signal: AbortSignal,
  read: (client: pg.Client) => Promise<DatabaseFingerprint>,
): Promise<DatabaseFingerprint> {
  try {
    return await withSql(config, signal, async (client) => {
      await client.query('begin isolation level repeatable read read only')
      return read(client)
    })
  } catch (error) {
    throwIfInterrupted(signal)
    return withoutLook(config.database, error instanceof Error ? error.message : String(error))
  }
}

function withoutLook(name: string, problem: string): DatabaseFingerprint {
  return { name, problem, schema: '', tables: 0, largeObjects: 0, counts: [], others: { tables: 0, rows: 0 } }
}

async function findDatabases(client: pg.Client): Promise<{ names: string[]; at: string; lsn: string }> {
  const { rows } = await client.query<{ name: string }>(
    'select datname as name from pg_catalog.pg_database where datallowconn and not datistemplate order by datname',
  )
  const state = await client.query<{ now: Date; lsn: string }>(
    `select pg_catalog.clock_timestamp() as now, (case when pg_catalog.pg_is_in_recovery()
       then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_insert_lsn() end)::text as lsn`,
  )
  const [{ now, lsn } = { now: new Date(0), lsn: '0/0' }] = state.rows
  return { names: rows.map(({ name }) => name), at: now.toISOString(), lsn }
}
