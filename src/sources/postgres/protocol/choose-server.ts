import { setTimeout as delay } from 'node:timers/promises'
import { isRegainError, RegainError, throwIfInterrupted } from '../../../errors.ts'
import { withSql } from './connection.ts'
import {
  type ConnectionConfig,
  describeConnection,
  describeHost,
  describeServers,
  type ServerUrl,
  type SessionKind,
} from './connection-url.ts'

/** What a server says of itself when it is asked whether it is the one that is wanted. */
export interface ServerState {
  standby: boolean
  /** Sessions begin read-only: a standby, or default_transaction_read_only. */
  readOnly: boolean
  systemId: string
  /** Of a primary; a standby's is that of whoever it follows. */
  timeline: number | null
}

export interface AskedServer {
  config: ConnectionConfig
  /** What it said; or why it did not; null: it has not answered yet. */
  answer: ServerState | RegainError | null
}

/** How long the others may still answer after a server that would do has. */
const GRACE_MS = 3000
/** Beyond the time for connecting: for one question. */
const ANSWER_MS = 5000

/**
 * The server to work with now: one operation asks once, so that all its connections go to the same one. With one host and
 * nothing wanted of it that one, unasked. Rejects with `source-unavailable`, saying of each host why it is not the one, or
 * with `source-unsuitable` if the hosts are of different clusters.
 */
export async function chooseServer(url: ServerUrl, signal: AbortSignal): Promise<ConnectionConfig> {
  const [only, ...others] = url.candidates
  if (only !== undefined && others.length === 0 && url.wanted === 'any') return only
  const asked = await askServers(url, signal, GRACE_MS)
  checkOneCluster(asked, url)
  const chosen = pickServer(asked, url.wanted)
  if (chosen !== null) return chosen.config
  throw noneFits(asked, url)
}

/** Asks all of them at once. Those that have not answered `graceMs` after one that would do are not waited for; null: all are. */
export async function askServers(url: ServerUrl, signal: AbortSignal, graceMs: number | null): Promise<AskedServer[]> {
  const asked: AskedServer[] = url.candidates.map((config) => ({ config, answer: null }))
  const enough = new AbortController()
  const all = AbortSignal.any([signal, enough.signal])
  const grace = Promise.withResolvers<void>()
  const asking = asked.map(async (server) => {
    const answer = await ask(server.config, all)
    // Broken off, not answered.
    if (enough.signal.aborted) return
    server.answer = answer
    if (graceMs !== null && pickServer(asked, url.wanted) !== null) grace.resolve()
  })
  const patience = grace.promise.then(() => delay(graceMs ?? 0, undefined, { signal: all })).catch(() => undefined)
  await Promise.race([Promise.all(asking), patience])
  enough.abort()
  grace.resolve()
  await Promise.all([...asking, patience])
  throwIfInterrupted(signal)
  return asked
}

/**
 * The first that is what is wanted. Of several that take writes only the newest timeline's: a primary that comes back after
 * its standby was promoted still believes in itself, and what is acknowledged goes elsewhere.
 */
export function pickServer(asked: readonly AskedServer[], wanted: SessionKind): AskedServer | null {
  const answers = asked.flatMap((server) =>
    server.answer === null || server.answer instanceof RegainError ? [] : [{ server, state: server.answer }],
  )
  const newest = Math.max(0, ...answers.map(({ state }) => state.timeline ?? 0))
  const current = answers.filter(({ state }) => state.timeline === null || state.timeline === newest)
  const first = (fits: (state: ServerState) => boolean): AskedServer | null =>
    current.find(({ state }) => fits(state))?.server ?? null
  switch (wanted) {
    case 'any':
      return first(() => true)
    case 'read-write':
      return first(({ readOnly, standby }) => !readOnly && !standby)
    case 'read-only':
      return first(({ readOnly }) => readOnly)
    case 'primary':
      return first(({ standby }) => !standby)
    case 'standby':
      return first(({ standby }) => standby)
    case 'prefer-standby':
      return first(({ standby }) => standby) ?? first(() => true)
  }
}

/** 'a standby', 'a primary on timeline 2', or why it did not say. */
export function describeAnswer({ config, answer }: AskedServer): string {
  if (answer === null) return 'it did not answer in time'
  if (answer instanceof RegainError)
    return answer.message.replace(`${describeConnection(config)}: `, '').replace(/\.$/, '')
  if (answer.standby) return 'a standby'
  return `a primary on timeline ${answer.timeline ?? '?'}${answer.readOnly ? ', read-only' : ''}`
}

async function ask(config: ConnectionConfig, signal: AbortSignal): Promise<ServerState | RegainError> {
  const late = AbortSignal.timeout(config.connectTimeoutMs + ANSWER_MS)
  try {
    const rows = await withSql(config, AbortSignal.any([signal, late]), async (client) => {
      const result = await client.query<{
        standby: boolean
        readonly: boolean
        system: string
        timeline: string | null
      }>(
        `select pg_catalog.pg_is_in_recovery() as standby,
                pg_catalog.current_setting('transaction_read_only') = 'on' as readonly,
                (select system_identifier::text from pg_catalog.pg_control_system()) as system,
                case when pg_catalog.pg_is_in_recovery() then null
                     else pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) end as timeline`,
      )
      return result.rows
    })
    const [row] = rows
    if (!row) return new RegainError('source-unavailable', 'The server did not say who it is.')
    const timeline = row.timeline === null ? null : Number.parseInt(row.timeline, 16)
    return { standby: row.standby, readOnly: row.readonly, systemId: row.system, timeline }
  } catch (error) {
    if (!isRegainError(error)) throw error
    if (error.code !== 'interrupted' || signal.aborted) return error
    return new RegainError('source-unavailable', 'It did not answer in time.')
  }
}

function checkOneCluster(asked: readonly AskedServer[], url: ServerUrl): void {
  const systems = new Map<string, string>()
  for (const { config, answer } of asked)
    if (answer !== null && !(answer instanceof RegainError)) systems.set(answer.systemId, describeHost(config))
  if (systems.size < 2) return
  const those = [...systems].map(([system, host]) => `${host} has the system identifier ${system}`).join(', ')
  throw new RegainError(
    'source-unsuitable',
    `${describeServers(url)} are not servers of one cluster: ${those}. Nothing was done.`,
    { hint: 'Name only a primary and its standbys in one URL; another cluster is a source of its own.' },
  )
}

function noneFits(asked: readonly AskedServer[], url: ServerUrl): RegainError {
  const those = asked.map((server) => `${describeHost(server.config)}: ${describeAnswer(server)}`).join('; ')
  const what =
    url.wanted === 'any' ? 'No server answers' : `No server is what target_session_attrs=${url.wanted} asks for`
  // One that can't be right by itself, among others that may come back, is not worth giving up for.
  const isLasting = asked.every(({ answer }) => answer instanceof RegainError && answer.code === 'source-unsuitable')
  const [first] = asked
  const hint = isLasting && first?.answer instanceof RegainError ? first.answer.hint : undefined
  return new RegainError(isLasting ? 'source-unsuitable' : 'source-unavailable', `${what}: ${those}.`, {
    ...(hint ? { hint } : {}),
  })
}
