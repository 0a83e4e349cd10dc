import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { openCatalog } from '../catalog/catalog.ts'
import type { DaemonRow, FollowerRow } from '../catalog/status.ts'
import type { ServiceConfiguration } from '../config/configuration.ts'
import { isRegainError } from '../errors.ts'
import type { Finding } from '../model.ts'
import type { Application } from './context.ts'

/** The daemon says that it lives every five seconds; a busy machine may delay that. */
const HEARTBEAT_LIMIT_MS = 60_000
/** An idle log is never so far behind, and a busy one should not be. */
const LAG_LIMIT_MS = 120_000
const STATE_FILE = 'state.db'

export type DaemonFinding = Finding & { source?: string }

/** How `regain serve` and its followers of this service stand, by the local state file. Makes no file. */
export function daemonFindings(application: Application, service: ServiceConfiguration): DaemonFinding[] {
  const { config, ambient, processId } = application
  const followed = Object.values(service.sources).flatMap((source) =>
    source.type === 'postgres' && source.log === 'continuous' ? [source.name] : [],
  )
  const wanted =
    service.schedule.full !== undefined || service.schedule.incremental !== undefined || followed.length > 0
  if (!wanted) return []
  if (!existsSync(join(config.state, STATE_FILE)))
    return judgeDaemon({ daemon: null, config: config.path, followers: [], followed, now: ambient.now() })
  try {
    const catalog = openCatalog({ directory: config.state, ambient, pid: processId })
    try {
      const followers = catalog.followers().filter((row) => row.service === service.name)
      return judgeDaemon({ daemon: catalog.daemon(), config: config.path, followers, followed, now: ambient.now() })
    } finally {
      catalog.close()
    }
  } catch (error) {
    if (!isRegainError(error)) throw error
    return [{ severity: 'warning', code: 'state', message: error.message, fix: error.hint }]
  }
}

/** Pure: what the rows mean at `now` (milliseconds since the epoch). */
export function judgeDaemon(facts: {
  daemon: DaemonRow | null
  /** Path of the configuration in question: a daemon of another one does nothing for it. */
  config: string
  followers: readonly FollowerRow[]
  /** Names of the sources whose log should be followed. */
  followed: readonly string[]
  now: number
}): DaemonFinding[] {
  const { now } = facts
  const daemon = facts.daemon?.config === facts.config ? facts.daemon : null
  if (daemon === null || daemon.stoppedAt !== null || now - daemon.heartbeatAt > HEARTBEAT_LIMIT_MS) {
    const since = daemon === null ? '' : `, last seen ${new Date(daemon.stoppedAt ?? daemon.heartbeatAt).toISOString()}`
    const log = facts.followed.length > 0 ? ' and no log is followed' : ''
    const message = `regain serve is not running${since}: nothing is backed up by schedule${log}`
    return [
      { severity: 'warning', code: 'daemon', message, fix: 'Start it: regain serve (docs/how-to/run-as-a-service.md)' },
    ]
  }
  return [
    { severity: 'ok', code: 'daemon', message: `regain serve runs as process ${daemon.pid}` },
    ...facts.followed.map((source) => ({
      source,
      ...judgeFollower(facts.followers.find((row) => row.source === source)),
    })),
  ]
}

function judgeFollower(row: FollowerRow | undefined): Finding {
  if (row === undefined || row.state === 'stopped')
    return {
      severity: 'warning',
      code: 'log',
      message: 'its log is not followed',
      fix: 'See what regain serve reports.',
    }
  const until = row.durableUntil === null ? 'nothing of it is durable yet' : `all until ${row.durableUntil} is durable`
  if (row.state === 'streaming') {
    const lagMs = row.durableUntil === null ? 0 : Math.max(0, row.updatedAt - Date.parse(row.durableUntil))
    const message = `its log is followed: ${until}, ${Math.round(lagMs / 1000)} s and ${row.lagBytes ?? 0} bytes behind`
    if (lagMs <= LAG_LIMIT_MS) return { severity: 'ok', code: 'log', message }
    const fix = 'The destination takes less than the server writes, or stands still: see what regain serve reports.'
    return { severity: 'warning', code: 'log', message, fix }
  }
  const why = row.error === null ? 'it is connecting' : row.error.message
  return {
    severity: 'warning',
    code: 'log',
    message: `its log is not followed now: ${why}; ${until}`,
    fix: 'See what regain serve reports.',
  }
}
