import type { DatabaseSync } from 'node:sqlite'
import { numberOrNull, type Row, textOrNull, toError } from './rows.ts'

/** The tables `followers` and `daemon`: how things stand now. */

export interface FollowerRow {
  service: string
  source: string
  /** `waiting`: it failed and will be started again at `retryAt`. */
  state: 'connecting' | 'streaming' | 'waiting' | 'stopped'
  durable: string | null
  server: string | null
  lagBytes: number | null
  /** RFC 3339 UTC: everything the source had committed by then is durable. */
  durableUntil: string | null
  /** How often it had to be started again since the daemon began. */
  restarts: number
  error: { code: string; message: string } | null
  retryAt: number | null
  updatedAt: number
}

export interface DaemonRow {
  pid: number
  version: string
  /** Path of its configuration. */
  config: string
  startedAt: number
  heartbeatAt: number
  /** Null while it runs, or when it died without saying so. */
  stoppedAt: number | null
}

export function upsertFollower(database: DatabaseSync, row: FollowerRow): void {
  database
    .prepare(
      `insert or replace into followers (service, source, state, durable, server, lag_bytes, durable_until, restarts,
       error_code, error_message, retry_at, updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    )
    .run(
      row.service,
      row.source,
      row.state,
      row.durable,
      row.server,
      row.lagBytes,
      row.durableUntil,
      row.restarts,
      row.error?.code ?? null,
      row.error?.message ?? null,
      row.retryAt,
      row.updatedAt,
    )
}

export function selectFollowers(database: DatabaseSync): FollowerRow[] {
  const rows: Row[] = database.prepare('select * from followers order by service, source').all()
  return rows.map((row) => ({
    service: String(row.service),
    source: String(row.source),
    state: String(row.state) as FollowerRow['state'],
    durable: textOrNull(row.durable),
    server: textOrNull(row.server),
    lagBytes: numberOrNull(row.lag_bytes),
    durableUntil: textOrNull(row.durable_until),
    restarts: Number(row.restarts),
    error: toError(row),
    retryAt: numberOrNull(row.retry_at),
    updatedAt: Number(row.updated_at),
  }))
}

export function upsertDaemon(database: DatabaseSync, row: DaemonRow): void {
  database
    .prepare(
      `insert or replace into daemon (one, pid, version, config, started_at, heartbeat_at, stopped_at)
       values (1, ?, ?, ?, ?, ?, ?)`,
    )
    .run(row.pid, row.version, row.config, row.startedAt, row.heartbeatAt, row.stoppedAt)
}

export function selectDaemon(database: DatabaseSync): DaemonRow | null {
  const row: Row | undefined = database.prepare('select * from daemon').get()
  if (row === undefined) return null
  return {
    pid: Number(row.pid),
    version: String(row.version),
    config: String(row.config),
    startedAt: Number(row.started_at),
    heartbeatAt: Number(row.heartbeat_at),
    stoppedAt: numberOrNull(row.stopped_at),
  }
}
