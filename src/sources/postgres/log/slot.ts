import { createHash } from 'node:crypto'
import { RegainError } from '../../../errors.ts'
import { withSql } from '../protocol/connection.ts'
import { sqlStateOf } from '../protocol/connection-errors.ts'
import { type ConnectionConfig, describeConnection } from '../protocol/connection-url.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'
import type { ReplicationConnection } from '../protocol/replication-connection.ts'

export interface Slot {
  active: boolean
  activePid: number | null
  /** Oldest WAL the server keeps for it; null if it never kept any. */
  restartLsn: Lsn | null
  /** The server gave it up: WAL that it stood for is gone. */
  lost: boolean
}

/** PostgreSQL: lower case letters, digits and underscores, at most 63. */
const SLOT_NAME = /^[a-z0-9_]{1,63}$/

/** SQLSTATE configuration_limit_exceeded: max_replication_slots are in use. */
const LIMIT_EXCEEDED = '53400'

/** Of every slot that is not named by its source's configuration. */
export const SLOT_PREFIX = 'regain_'

/**
 * The slot of one source of one repository. `owner` distinguishes repositories that follow the same server (two
 * destinations, a test beside production). The name tells what it is for, and a hash keeps distinct what the alphabet
 * or the length would merge.
 */
export function defaultSlotName(service: string, source: string, owner = ''): string {
  const plain = `${SLOT_PREFIX}${service}_${source}`
  if (owner === '' && SLOT_NAME.test(plain)) return plain
  const hash = createHash('sha256')
    .update(JSON.stringify([service, source, owner]))
    .digest('hex')
    .slice(0, 8)
  return `${plain
    .toLowerCase()
    .replace(/[^a-z0-9_]/g, '_')
    .slice(0, 54)}_${hash}`
}

export function checkSlotName(name: string): string {
  if (SLOT_NAME.test(name)) return name
  throw new RegainError('config-invalid', `"${name}" cannot name a replication slot.`, {
    hint: 'Lower case letters, digits and underscores, at most 63.',
  })
}

/** The physical slot of this name, or null. Rejects with `source-unsuitable` if the name belongs to a logical slot. */
export async function readSlot(config: ConnectionConfig, name: string, signal: AbortSignal): Promise<Slot | null> {
  const rows = await withSql(config, signal, async (client) => {
    const result = await client.query<{
      slot_type: string
      active: boolean
      active_pid: number | null
      restart_lsn: string | null
      wal_status: string | null
    }>(
      `select slot_type, active, active_pid, restart_lsn::text as restart_lsn, wal_status
         from pg_catalog.pg_replication_slots where slot_name = $1`,
      [name],
    )
    return result.rows
  })
  const [row] = rows
  if (!row) return null
  if (row.slot_type !== 'physical') {
    throw new RegainError(
      'source-unsuitable',
      `${describeConnection(config)}: the replication slot "${name}" is a logical one, of something else.`,
      {
        hint: 'Name another with "slot:" at this source.',
      },
    )
  }
  return {
    active: row.active,
    activePid: row.active_pid,
    restartLsn: row.restart_lsn === null ? null : parseLsn(row.restart_lsn),
    lost: row.wal_status === 'lost',
  }
}

/** Makes a slot that keeps WAL from the last checkpoint on. Temporary ones end with the connection. */
export async function createSlot(connection: ReplicationConnection, name: string, temporary: boolean): Promise<void> {
  try {
    // The option without parentheses is understood by all versions from 13 to 18.
    await connection.query(`CREATE_REPLICATION_SLOT "${name}" ${temporary ? 'TEMPORARY ' : ''}PHYSICAL RESERVE_WAL`)
  } catch (error) {
    if (sqlStateOf(error) !== LIMIT_EXCEEDED) throw error
    throw new RegainError(
      'source-unsuitable',
      `${describeConnection(connection.config)}: all replication slots are in use.`,
      {
        cause: error,
        hint: 'ALTER SYSTEM SET max_replication_slots = 20; then restart the server, or drop a slot that nobody uses.',
      },
    )
  }
}

export async function dropSlot(connection: ReplicationConnection, name: string): Promise<void> {
  await connection.query(`DROP_REPLICATION_SLOT "${name}"`)
}

/**
 * The slot to follow a log with, made if there is none. Rejects with `source-unavailable` while another process uses it.
 * One that the server gave up is made anew; whether log is lost with it shows when that is asked for, because the server
 * may not have removed it yet.
 */
export async function openSlot(
  connection: ReplicationConnection,
  name: string,
  warn: (message: string) => void,
  signal: AbortSignal,
): Promise<Slot> {
  const { config } = connection
  const found = await readSlot(config, name, signal)
  if (found?.active) {
    throw new RegainError(
      'source-unavailable',
      `${describeConnection(config)}: the replication slot "${name}" is in use by process ${found.activePid ?? 'unknown'} of the server.`,
      {
        hint: 'Another follower of this source is running, or one that died has not been noticed yet: the server gives up after wal_sender_timeout.',
      },
    )
  }
  if (found !== null && !found.lost) return found
  if (found !== null) {
    warn(
      `The server gave up the replication slot "${name}": it kept more WAL for it than max_slot_wal_keep_size allows, or longer than it may. A new one is made.`,
    )
    await dropSlot(connection, name)
  }
  await createSlot(connection, name, false)
  const made = await readSlot(config, name, signal)
  if (made === null)
    throw new RegainError('source-unavailable', `The replication slot "${name}" vanished while it was made.`)
  return made
}
