import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import type { LogMark } from '../log/log-clock.ts'
import { withSql } from '../protocol/connection.ts'
import { type ConnectionConfig, describeConnection } from '../protocol/connection-url.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'

/**
 * A standby's own clock says nothing of what its primary has acknowledged: it may be any time behind. What tells is in its log
 * (when the last transaction that it has replayed was committed), and what its receiver was last told by the primary.
 */

const LOOK_MS = 2000

/**
 * Where the replayed log ended after a moment, and that moment, by the primary's clock: all committed until then lies before.
 * `time`: RFC 3339 UTC, to the microsecond: none that lies before `end` was committed later.
 */
export async function replayedUntil(
  config: ConnectionConfig,
  signal: AbortSignal,
): Promise<LogMark & { time: string }> {
  const row = await withSql(config, signal, async (client) => {
    // The time first: the transaction that it is of must lie before the position.
    const time = await client.query<{ at: string }>(
      // None replayed since the start: what came before was committed before.
      `select to_char(coalesce(pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_postmaster_start_time())
                      at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
    )
    const position = await client.query<{ lsn: string | null }>(
      `select pg_catalog.pg_last_wal_replay_lsn()::text as lsn`,
    )
    return { at: time.rows[0]?.at, lsn: position.rows[0]?.lsn }
  })
  if (!row.at || !row.lsn)
    throw new RegainError('source-unavailable', `${describeConnection(config)} did not say what it has replayed.`)
  return { end: parseLsn(row.lsn), clockMs: Date.parse(row.at), time: row.at }
}

/**
 * Calls `message` with what the primary last told the standby's receiver (its end and its clock, as in a message of its own
 * stream), or `mark` with what has been replayed where that may not be read; until the signal fires. Never rejects: while
 * nothing can be asked, times are known later than they could be, never wrongly.
 */
export async function watchStandbyClock(
  config: ConnectionConfig,
  signal: AbortSignal,
  heard: { message(end: Lsn, clockMs: number): void; mark(mark: LogMark): void },
): Promise<void> {
  const pause = () => delay(LOOK_MS, undefined, { signal })
  while (!signal.aborted) {
    try {
      await withSql(config, signal, async (client) => {
        for (;;) {
          throwIfInterrupted(signal)
          const told = await askReceiver(client)
          if (told !== null) heard.message(told.end, told.clockMs)
          else heard.mark(await replayedUntil(config, signal))
          await pause()
        }
      })
    } catch {
      // Interrupted; or the server is gone, which whoever follows its log hears by itself; or this connection alone broke.
      // It rejects only when interrupted, which ends the loop.
      await pause().catch(() => undefined)
    }
  }
}

/** Null: no receiver runs, or the role may not see what it knows (pg_monitor). */
async function askReceiver(client: pg.Client): Promise<LogMark | null> {
  const { rows } = await client.query<{ lsn: string | null; at: Date | null }>(
    `select latest_end_lsn::text as lsn, last_msg_send_time as at
       from pg_catalog.pg_stat_wal_receiver where status = 'streaming'`,
  )
  const [row] = rows
  return row?.lsn && row.at ? { end: parseLsn(row.lsn), clockMs: row.at.getTime() } : null
}
