import type pg from 'pg'
import { isRegainError } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import { checkHosts, checkStandby } from './check-hosts.ts'
import { SLOT_PREFIX } from './log/slot.ts'
import { chooseServer } from './protocol/choose-server.ts'
import { connectReplication, withSql } from './protocol/connection.ts'
import { quoteIdentifier, quoteLiteral, sqlStateOf } from './protocol/connection-errors.ts'
import { type ConnectionConfig, describeConnection, isLoopback, type ServerUrl } from './protocol/connection-url.ts'
import { readServerFacts, type ServerFacts } from './server/server-facts.ts'

export interface CheckRequest {
  url: ServerUrl
  slot: string
  /** Slots of all sources of this configuration whose log is followed. */
  slotsInUse: readonly string[]
  /** Whether the log is to be followed. */
  continuous: boolean
  signal: AbortSignal
}

/** What would keep a backup, the log or a restore from working, each with the command that mends it. Changes nothing. */
export async function checkPostgres(request: CheckRequest): Promise<Finding[]> {
  const { url, signal } = request
  let config: ConnectionConfig
  let facts: ServerFacts
  try {
    config = await chooseServer(url, signal)
    facts = await readServerFacts(config, signal)
  } catch (error) {
    return [asFinding('connection', error)]
  }
  const settings = await withSql(config, signal, readSettings)
  return [
    ok(
      'connection',
      `${describeConnection(config)} answers: PostgreSQL ${facts.version}${facts.standby ? ', a standby' : ''}.`,
    ),
    ...(await checkHosts(url, config, signal, (host) => checkReplication(host, signal))),
    ...checkStandby(request, config, facts),
    checkTransport(config, settings),
    await checkReplication(config, signal),
    checkWalLevel(settings),
    checkSenders(settings),
    ...checkSlots(request, settings),
    ...checkLeftOver(request, settings),
    checkChecksums(facts),
    ...checkSummaries(facts, settings),
    ...checkSenderTimeout(settings),
  ]
}

interface ServerSettings {
  values: Map<string, string>
  senders: number
  slots: { name: string; type: string; active: boolean; temporary: boolean; status: string | null; kept: number }[]
  encrypted: boolean
}

async function readSettings(client: pg.Client): Promise<ServerSettings> {
  const names = [
    'wal_level',
    'max_wal_senders',
    'max_replication_slots',
    'max_slot_wal_keep_size',
    'summarize_wal',
    'wal_sender_timeout',
    'full_page_writes',
    'fsync',
  ]
  const { rows } = await client.query<{ name: string; setting: string }>(
    'select name, setting from pg_catalog.pg_settings where name = any($1)',
    [names],
  )
  const senders = await client.query<{ n: string }>(`select count(*) as n from pg_catalog.pg_stat_replication`)
  const slots = await client.query<{
    slot_name: string
    slot_type: string
    active: boolean
    temporary: boolean
    wal_status: string | null
    kept: string | null
  }>(
    `select slot_name, slot_type, active, temporary, wal_status,
            pg_catalog.pg_wal_lsn_diff(
              case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                   else pg_catalog.pg_current_wal_lsn() end, restart_lsn)::text as kept
       from pg_catalog.pg_replication_slots`,
  )
  const tls = await client.query<{ ssl: boolean }>(
    'select ssl from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()',
  )
  return {
    values: new Map(rows.map(({ name, setting }) => [name, setting])),
    senders: Number(senders.rows[0]?.n ?? 0),
    slots: slots.rows.map((row) => ({
      name: row.slot_name,
      type: row.slot_type,
      active: row.active,
      temporary: row.temporary,
      status: row.wal_status,
      kept: Number(row.kept ?? 0),
    })),
    encrypted: tls.rows[0]?.ssl === true,
  }
}

function checkTransport(config: ConnectionConfig, settings: ServerSettings): Finding {
  if (settings.encrypted || isLoopback(config))
    return ok(
      'tls',
      settings.encrypted ? 'The connection is encrypted.' : 'The connection does not leave this machine.',
    )
  return {
    severity: 'warning',
    code: 'tls',
    message:
      'The connection is not encrypted: everything in the database crosses the network in clear when it is backed up.',
    fix: "ALTER SYSTEM SET ssl = on; with a certificate, then SELECT pg_reload_conf(); and sslmode=verify-full in the source's URL",
  }
}

/** By SQLSTATE: insufficient_privilege, and what a missing line in pg_hba.conf is called. */
const REPLICATION_FIXES: Record<string, (config: ConnectionConfig) => string> = {
  '42501': ({ user }) => `ALTER ROLE ${quoteIdentifier(user)} REPLICATION;`,
  '28000': ({ user }) =>
    `Add to pg_hba.conf: host replication ${user} <this machine's address>/32 scram-sha-256 -- then: SELECT pg_reload_conf();`,
}

/** Rights and pg_hba.conf at once, by trying. */
async function checkReplication(config: ConnectionConfig, signal: AbortSignal): Promise<Finding> {
  try {
    const connection = await connectReplication(config, signal)
    await connection.query('IDENTIFY_SYSTEM').finally(() => connection.close())
    return ok('replication-rights', `The role ${config.user} may replicate.`)
  } catch (error) {
    const finding = asFinding('replication-rights', error)
    const fix = REPLICATION_FIXES[sqlStateOf(error)]
    return fix ? { ...finding, fix: fix(config) } : finding
  }
}

function checkWalLevel(settings: ServerSettings): Finding {
  const level = settings.values.get('wal_level') ?? ''
  if (level !== 'minimal') return ok('wal-level', `wal_level is ${level}.`)
  return {
    severity: 'error',
    code: 'wal-level',
    message: 'wal_level is minimal: neither backups nor the log can be taken.',
    fix: 'ALTER SYSTEM SET wal_level = replica; then restart the server',
  }
}

/** A backup takes two, the log one more. */
function checkSenders(settings: ServerSettings): Finding {
  const limit = Number(settings.values.get('max_wal_senders') ?? 0)
  const free = limit - settings.senders
  if (free >= 3) return ok('wal-senders', `${free} of ${limit} WAL senders are free.`)
  return {
    severity: free < 2 ? 'error' : 'warning',
    code: 'wal-senders',
    message: `Only ${free} of ${limit} WAL senders are free; a backup takes two, following the log one more.`,
    fix: `ALTER SYSTEM SET max_wal_senders = ${limit + 5}; then restart the server`,
  }
}

/** Slots that were made for a source which is gone, or no longer followed: they keep log for nobody, without an end. */
function checkLeftOver({ slotsInUse }: CheckRequest, settings: ServerSettings): Finding[] {
  return settings.slots
    .filter(({ name, type, active, temporary }) => {
      return name.startsWith(SLOT_PREFIX) && type === 'physical' && !active && !temporary && !slotsInUse.includes(name)
    })
    .map(({ name, kept }) => ({
      severity: 'warning',
      code: 'slot-left-over',
      message: `The replication slot "${name}" belongs to no source of this configuration, nobody uses it now, and the server keeps ${(kept / 1e6).toFixed(0)} MB of log for it, and ever more.`,
      fix: `If no other installation of Regain follows this cluster with it: SELECT pg_drop_replication_slot(${quoteLiteral(name)});`,
    }))
}

function checkSlots({ slot, continuous }: CheckRequest, settings: ServerSettings): Finding[] {
  const findings: Finding[] = []
  const limit = Number(settings.values.get('max_replication_slots') ?? 0)
  const own = settings.slots.find(({ name }) => name === slot)
  const wanted = 1 + (continuous && !own ? 1 : 0)
  const free = limit - settings.slots.length
  if (own && own.type !== 'physical') {
    findings.push({
      severity: 'error',
      code: 'slot-name',
      message: `The replication slot "${slot}" is a logical one, of something else.`,
      fix: 'Name another with slot: at this source in regain.yaml',
    })
  } else if (own?.status === 'lost') {
    findings.push({
      severity: 'warning',
      code: 'slot-lost',
      message: `The server has given up the slot "${slot}": the log has a break.`,
      fix: 'Take a new point: regain backup',
    })
  } else if (own?.status === 'unreserved') {
    findings.push({
      severity: 'warning',
      code: 'slot-unreserved',
      message: `The server keeps more log for the slot "${slot}" than max_slot_wal_keep_size allows, and gives it up with its next checkpoint.`,
      fix: 'See why the log is not stored (regain check, the log of regain serve), or raise max_slot_wal_keep_size.',
    })
  }
  if (free >= wanted) findings.push(ok('slots', `${free} of ${limit} replication slots are free.`))
  else {
    findings.push({
      severity: continuous && !own && free < 1 ? 'error' : 'warning',
      code: 'slots',
      message: `${free} of ${limit} replication slots are free; ${wanted === 2 ? 'the log needs one for good and each backup one for a while' : 'each backup needs one for a while'}.`,
      fix: `ALTER SYSTEM SET max_replication_slots = ${limit + 5}; then restart the server`,
    })
  }
  // A limit in megabytes; -1 is none.
  if (continuous && settings.values.get('max_slot_wal_keep_size') === '-1') {
    findings.push({
      severity: 'warning',
      code: 'slot-limit',
      message:
        'max_slot_wal_keep_size is unlimited: while the log cannot be stored, the server keeps it all. regain serve drops the slot before that fills the disk (slotLimit), but not while it is not running.',
      fix: "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
    })
  }
  return findings
}

function checkChecksums(facts: ServerFacts): Finding {
  if (facts.dataChecksums)
    return ok('data-checksums', 'Data checksums are on: damaged pages are noticed when they are backed up.')
  return {
    severity: 'warning',
    code: 'data-checksums',
    message: 'Data checksums are off: a page that the disk has damaged is backed up as if it were good.',
    fix: 'With the server stopped: pg_checksums --enable -D <data directory>',
  }
}

function checkSummaries(facts: ServerFacts, settings: ServerSettings): Finding[] {
  if (facts.major < 17 || settings.values.get('summarize_wal') === 'on') return []
  return [
    {
      severity: 'warning',
      code: 'summarize-wal',
      message:
        'summarize_wal is off: every backup reads the whole cluster, instead of what has changed since the last one.',
      fix: 'ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();',
    },
  ]
}

function checkSenderTimeout(settings: ServerSettings): Finding[] {
  const timeoutMs = Number(settings.values.get('wal_sender_timeout') ?? 60_000)
  if (timeoutMs === 0 || timeoutMs >= 2000) return []
  return [
    {
      severity: 'warning',
      code: 'wal-sender-timeout',
      message: `wal_sender_timeout is ${timeoutMs} ms: a short pause of this machine breaks the stream of the log.`,
      fix: "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
    },
  ]
}

function ok(code: string, message: string): Finding {
  return { severity: 'ok', code, message }
}

function asFinding(code: string, error: unknown): Finding {
  if (!isRegainError(error) || error.code === 'interrupted') throw error
  return { severity: 'error', code, message: error.message, fix: error.hint }
}
