import type { KeptLog, LogGuard } from '../../contract.ts'
import { askServers, pickServer } from '../protocol/choose-server.ts'
import { withSql } from '../protocol/connection.ts'
import { type ConnectionConfig, describeHost, parseServerUrl } from '../protocol/connection-url.ts'
import { diskOfServer } from '../server/server-disk.ts'
import { checkSlotName } from './slot.ts'

export interface GuardConfig {
  url: string
  slot: string
  /** From so much on that is kept it is worth asking how large the data is: that costs a look at each of its files. */
  askSizeFromBytes: number
}

const STOP_ATTEMPTS = 20

/**
 * Watches the slot of a log follower on every server of the URL, and drops it. Each call connects for itself, and neither
 * needs the repository.
 */
export function createLogGuard(config: GuardConfig): LogGuard {
  const url = parseServerUrl(config.url)
  const slot = checkSlotName(config.slot)
  const find = (server: string) => url.candidates.find((candidate) => describeHost(candidate) === server)
  return {
    async look(signal) {
      const [only, ...others] = url.candidates
      if (only !== undefined && others.length === 0) {
        const kept = await lookAt(only, slot, config, signal)
        return kept === null ? [] : [{ ...kept, isFollowed: true }]
      }
      const asked = await askServers(url, signal, null)
      const followed = pickServer(asked, url.wanted)
      const all: KeptLog[] = []
      for (const server of asked) {
        if (server.answer === null || server.answer instanceof Error) continue
        const kept = await lookAt(server.config, slot, config, signal)
        if (kept !== null) all.push({ ...kept, isFollowed: followed === null || followed === server })
      }
      return all
    },
    async giveUp({ server }, signal) {
      const found = find(server)
      if (found !== undefined) await drop(found, slot, signal)
    },
  }
}

/** Null: there is no slot of this name, or it keeps nothing any more. */
async function lookAt(
  config: ConnectionConfig,
  slot: string,
  { askSizeFromBytes }: GuardConfig,
  signal: AbortSignal,
): Promise<Omit<KeptLog, 'isFollowed'> | null> {
  const [row] = await withSql(config, signal, async (client) => {
    const result = await client.query<SlotRow>(SLOT_QUERY, [slot])
    const [found] = result.rows
    if (!found || Number(found.kept) < askSizeFromBytes) return result.rows
    const size = await client.query<{ bytes: string | null }>(
      `select sum(pg_catalog.pg_database_size(oid))::text as bytes from pg_catalog.pg_database
        where pg_catalog.has_database_privilege(oid, 'connect')`,
    )
    return [{ ...found, data: size.rows[0]?.bytes ?? null }]
  })
  if (!row) return null
  return {
    server: describeHost(config),
    keptBytes: Math.max(0, Number(row.kept)),
    // In megabytes; -1: none.
    ownLimitBytes: Number(row.limit_mb) < 0 ? null : Number(row.limit_mb) * 1024 * 1024,
    dataBytes: row.data === undefined || row.data === null ? null : Number(row.data),
    disk: await diskOfServer(config, row.directory, row.system),
  }
}

interface SlotRow {
  kept: string
  limit_mb: string
  directory: string | null
  system: string
  data?: string | null
}

/** What is behind restart_lsn is kept; a standby's log ends with what it has received. */
const SLOT_QUERY = `
  select pg_catalog.pg_wal_lsn_diff(
           case when pg_catalog.pg_is_in_recovery()
                then greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                else pg_catalog.pg_current_wal_lsn() end, restart_lsn)::text as kept,
         (select setting from pg_catalog.pg_settings where name = 'max_slot_wal_keep_size') as limit_mb,
         (select setting from pg_catalog.pg_settings where name = 'data_directory') as directory,
         (select system_identifier::text from pg_catalog.pg_control_system()) as system
    from pg_catalog.pg_replication_slots
   where slot_name = $1 and slot_type = 'physical' and restart_lsn is not null`

/** A follower whose store stands still holds its slot: its connection is ended first. It makes a new one when it can. */
async function drop(config: ConnectionConfig, slot: string, signal: AbortSignal): Promise<void> {
  await withSql(config, signal, async (client) => {
    for (let attempt = 1; ; attempt++) {
      const { rows } = await client.query<{ active: boolean }>(
        `select active, active and pg_catalog.pg_terminate_backend(active_pid) as ended
           from pg_catalog.pg_replication_slots where slot_name = $1 and slot_type = 'physical'`,
        [slot],
      )
      if (rows.length === 0) return
      if (rows[0]?.active !== true || attempt === STOP_ATTEMPTS) break
      await client.query('select pg_catalog.pg_sleep(0.1)')
    }
    // Still in use, or in use again: the server says so, and the next look tries again.
    await client.query('select pg_catalog.pg_drop_replication_slot($1)', [slot])
  })
}
