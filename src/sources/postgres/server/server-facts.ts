import type pg from 'pg'
import { RegainError } from '../../../errors.ts'
import { checkSegmentBytes } from '../log/wal.ts'
import { withSql } from '../protocol/connection.ts'
import { type ConnectionConfig, describeConnection } from '../protocol/connection-url.ts'

export const OLDEST_MAJOR = 13
export const NEWEST_MAJOR = 18

/** What must be known of a server before anything is read from it. */
export interface ServerFacts {
  /** '18.4'. */
  version: string
  major: number
  /** What its files are of: 'x86_64', 'aarch64'; null: it does not say. */
  machine: string | null
  /** Decimal; larger than a double holds. */
  systemId: string
  standby: boolean
  segmentBytes: number
  blockBytes: number
  dataChecksums: boolean
  /** It keeps book of changed blocks (17 and later). */
  summarizesWal: boolean
  /** RFC 3339 UTC, of the server's clock: when it was started, and now. */
  startedAt: string
  now: string
  /** Where its files stand, if the role may know. */
  dataDirectory: string | null
  /** Settings without which its WAL cannot be replayed, or its libraries not be found: recorded for the restore. */
  settings: Record<string, string>
}

/**
 * Recorded with each point. The first five: a standby refuses to run with less than its primary had. The others: a copy
 * must not archive where its original does, and cannot read what needs a library without it.
 */
const RECORDED_SETTINGS = [
  'max_connections',
  'max_worker_processes',
  'max_wal_senders',
  'max_prepared_transactions',
  'max_locks_per_transaction',
  'archive_mode',
  'shared_preload_libraries',
] as const

export function readServerFacts(config: ConnectionConfig, signal: AbortSignal): Promise<ServerFacts> {
  return withSql(config, signal, (client) => queryFacts(client, config))
}

async function queryFacts(client: pg.Client, config: ConnectionConfig): Promise<ServerFacts> {
  const { rows } = await client.query<{ name: string; setting: string }>(
    `select name, setting from pg_catalog.pg_settings where name = any($1)`,
    [
      [
        'server_version',
        'server_version_num',
        'wal_segment_size',
        'block_size',
        'data_checksums',
        'summarize_wal',
        'data_directory',
        ...RECORDED_SETTINGS,
      ],
    ],
  )
  const settings = new Map(rows.map(({ name, setting }) => [name, setting]))
  const major = Math.floor(Number(settings.get('server_version_num')) / 10_000)
  checkVersion(major, settings.get('server_version') ?? '', config)
  const [state] = (
    await client.query<{ system: string; version: string; standby: boolean; started: string; now: Date }>(
      `select pg_catalog.version() as version, (select system_identifier::text from pg_catalog.pg_control_system()) as system,
              pg_catalog.pg_is_in_recovery() as standby, pg_catalog.clock_timestamp() as now,
              to_char(pg_catalog.pg_postmaster_start_time() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as started`,
    )
  ).rows
  if (!state)
    throw new RegainError('source-unavailable', `${describeConnection(config)}: the server did not say who it is.`)
  return {
    // "15.18 (Debian 15.18-0+deb12u1)": the number is enough.
    version: /^[\d.]+\S*/.exec(settings.get('server_version') ?? '')?.[0] ?? '',
    major,
    // "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by …"
    machine: / on ([a-z0-9_]+)-/.exec(state.version)?.[1] ?? null,
    systemId: state.system,
    standby: state.standby,
    segmentBytes: checkSegmentBytes(Number(settings.get('wal_segment_size'))),
    blockBytes: Number(settings.get('block_size')),
    dataChecksums: settings.get('data_checksums') === 'on',
    summarizesWal: settings.get('summarize_wal') === 'on',
    // To the microsecond: it tells one start from another.
    startedAt: state.started,
    now: state.now.toISOString(),
    dataDirectory: settings.get('data_directory') ?? null,
    settings: Object.fromEntries(RECORDED_SETTINGS.map((name) => [name, settings.get(name) ?? ''])),
  }
}

function checkVersion(major: number, version: string, config: ConnectionConfig): void {
  if (major >= OLDEST_MAJOR && major <= NEWEST_MAJOR) return
  throw new RegainError(
    'source-unsuitable',
    `${describeConnection(config)} runs PostgreSQL ${version}; Regain backs up ${OLDEST_MAJOR} to ${NEWEST_MAJOR}.`,
    {
      hint:
        major < OLDEST_MAJOR
          ? 'Upgrade the server: its version is no longer supported by PostgreSQL either.'
          : 'Use a newer Regain.',
    },
  )
}

/** The server's clock now, RFC 3339 UTC. */
export async function serverClock(config: ConnectionConfig, signal: AbortSignal): Promise<string> {
  const rows = await withSql(
    config,
    signal,
    async (client) => (await client.query<{ now: Date }>('select pg_catalog.clock_timestamp() as now')).rows,
  )
  const [row] = rows
  if (!row)
    throw new RegainError('source-unavailable', `${describeConnection(config)}: the server did not tell its time.`)
  return row.now.toISOString()
}
