import { isRegainError, RegainError, throwIfInterrupted } from '../../../errors.ts'
import type { Ambient } from '../../../model.ts'
import type { FollowerOptions, LogFollower, LogListing, LogStore } from '../../contract.ts'
import { watchStandbyClock } from '../backup/standby-clock.ts'
import { chooseServer } from '../protocol/choose-server.ts'
import { connectReplication } from '../protocol/connection.ts'
import { sqlStateOf } from '../protocol/connection-errors.ts'
import {
  type ConnectionConfig,
  describeConnection,
  parseServerUrl,
  type ServerUrl,
} from '../protocol/connection-url.ts'
import { formatLsn, type Lsn, parseLsn } from '../protocol/lsn.ts'
import type { ReplicationConnection } from '../protocol/replication-connection.ts'
import { historiesIn } from '../recovery/window.ts'
import { readServerFacts, type ServerFacts } from '../server/server-facts.ts'
import type { LogMark } from './log-clock.ts'
import { claimLog, storeHistory } from './log-identity.ts'
import { endBefore, leftBehind, positionAt, provingPosition, type ResumePosition, resumePosition } from './resume.ts'
import { checkSlotName, openSlot } from './slot.ts'
import type { TimelineHistory } from './timeline.ts'
import { branchName, historyName, segmentName, segmentNumber } from './wal.ts'
import { type WalStatus, WalStream } from './wal-stream.ts'

export interface FollowerConfig {
  url: string
  /** Name of the physical replication slot: see defaultSlotName. */
  slot: string
  /** How often the unfinished segment is shipped, in ms: what a crash may lose. Default 5000. */
  tailMs?: number
  /** See WalStreamRequest; for tests. */
  silenceMs?: number
}

const DEFAULT_TAIL_MS = 3000
const MAX_STATUS_MS = 2000
/** SQLSTATE undefined_file: the WAL asked for was removed. */
const WAL_REMOVED = '58P01'
/** SQLSTATE object_not_in_prerequisite_state: the slot was invalidated. */
const SLOT_UNUSABLE = '55000'

/**
 * Follows a cluster's WAL into `store` with a physical replication slot, which makes the server keep what is not yet
 * durable in the repository. `run` chooses among the servers of the URL, makes its slot there if there is none, and goes on
 * where the store ends, across timelines. A break in the log (the server no longer has what comes next) is warned about,
 * shows as `needsPoint` in the status, and the log goes on behind it.
 */
export function createLogFollower(config: FollowerConfig, store: LogStore, ambient: Ambient): LogFollower {
  const url = parseServerUrl(config.url)
  checkSlotName(config.slot)
  return {
    run: (options) => new FollowerRun(url, config, store, ambient, options).run(),
  }
}

class FollowerRun {
  readonly #url: ServerUrl
  /** The server that is followed, once it is chosen. */
  #config!: ConnectionConfig
  readonly #slot: string
  readonly #tailMs: number
  readonly #silenceMs: number | undefined
  readonly #store: LogStore
  readonly #ambient: Ambient
  readonly #options: FollowerOptions
  /** Breaks connections at once; the caller's signal ends a running stream in order first. */
  readonly #hard = new AbortController()
  #stream: WalStream | null = null
  #needsPoint: string | undefined

  constructor(url: ServerUrl, config: FollowerConfig, store: LogStore, ambient: Ambient, options: FollowerOptions) {
    this.#url = url
    this.#slot = config.slot
    this.#tailMs = config.tailMs ?? DEFAULT_TAIL_MS
    this.#silenceMs = config.silenceMs
    this.#store = store
    this.#ambient = ambient
    this.#options = options
  }

  async run(): Promise<void> {
    const onAbort = (): void => {
      if (this.#stream) this.#stream.stop()
      else this.#hard.abort()
    }
    if (this.#options.signal.aborted) return
    this.#options.signal.addEventListener('abort', onAbort, { once: true })
    try {
      await this.#follow()
    } catch (error) {
      if (this.#options.signal.aborted && isRegainError(error, 'interrupted')) return
      throw error
    } finally {
      this.#options.signal.removeEventListener('abort', onAbort)
    }
  }

  async #follow(): Promise<void> {
    this.#config = await chooseServer(this.#url, this.#hard.signal)
    const facts = await readServerFacts(this.#config, this.#hard.signal)
    const connection = await connectReplication(this.#config, this.#hard.signal)
    try {
      const system = await connection.queryRow('IDENTIFY_SYSTEM')
      await claimLog(this.#store, system?.systemid ?? '')
      if (this.#url.candidates.length > 1)
        this.#ambient.log('info', 'A server was chosen to follow the log from.', {
          server: describeConnection(this.#config),
          standby: facts.standby,
        })
      const listing = await this.#store.list()
      const history = await this.#storeHistories(connection, Number(system?.timeline))
      this.#sayWhereItStands(listing, history, facts)
      const slot = await openSlot(connection, this.#slot, this.#options.warn, this.#hard.signal)
      const here = positionAt(slot.restartLsn ?? parseLsn(system?.xlogpos ?? ''), history, facts.segmentBytes)
      await this.#streamFrom(connection, facts, history, here)
    } finally {
      await connection.close()
    }
  }

  /** What a person must know of a server that is not the one that was followed before: its way may be another. */
  #sayWhereItStands(before: LogListing, history: TimelineHistory, { segmentBytes }: ServerFacts): void {
    const where = describeConnection(this.#config)
    const newest = Math.max(0, ...historiesIn(before))
    if (newest > history.timeline)
      this.#options.warn(
        `${where} is on timeline ${history.timeline}, and the repository holds log of timeline ${newest}, of a server of this cluster that was promoted since. If applications write to that one, correct the URL: what it writes is not protected now.`,
      )
    if (newest >= history.timeline) return
    for (const { timeline, from, to } of leftBehind(before, history, segmentBytes))
      this.#options.warn(
        `A server of timeline ${history.timeline} has taken over without the last ${to - from} bytes of timeline ${timeline}: what was committed there from ${formatLsn(from)} to ${formatLsn(to)} is not in it. The repository keeps them, and can bring back that end of timeline ${timeline}.`,
      )
  }

  /** Stores the history of the server's timeline, and of its ancestors where the server still has them. */
  async #storeHistories(connection: ReplicationConnection, timeline: number): Promise<TimelineHistory> {
    const history = await storeHistory(connection, this.#store, timeline)
    for (const { timeline: ancestor } of history.ancestors) {
      if (ancestor === 1 || (await this.#holdsHistory(ancestor))) continue
      await storeHistory(connection, this.#store, ancestor).catch((error: unknown) => {
        // Each history names all ancestors itself, so only a recovery *to* that ancestor would miss it.
        if (sqlStateOf(error) !== WAL_REMOVED) throw error
      })
    }
    return history
  }

  /** A damaged one is put again. */
  async #holdsHistory(timeline: number): Promise<boolean> {
    try {
      return (await this.#store.readHistory(historyName(timeline))) !== null
    } catch (error) {
      if (isRegainError(error, 'repository-damaged')) return false
      throw error
    }
  }

  /** From what the slot keeps; or, if the store's log ends before that and the server still has what is between, from there. */
  async #streamFrom(
    connection: ReplicationConnection,
    facts: ServerFacts,
    history: TimelineHistory,
    kept: ResumePosition,
  ): Promise<void> {
    const listing = await this.#store.list()
    await this.#dropStaleTails(listing)
    const earlier = endBefore(listing, history, facts.segmentBytes, kept)
    const next = resumePosition(listing, history, facts.segmentBytes, kept)
    const proving = provingPosition(listing, history, facts.segmentBytes, kept)
    // Asked only now: a server that is where it should be is further than all that was ever stored of it.
    const end = parseLsn((await connection.queryRow('IDENTIFY_SYSTEM'))?.xlogpos ?? '')
    const server = { facts, end }
    this.#checkNotSetBack(next, server)
    try {
      await this.#streamTimelines(connection, server, earlier ?? proving)
    } catch (error) {
      if (earlier === null || sqlStateOf(error) !== WAL_REMOVED) throw this.#explain(error)
      this.#break(`the server no longer has the WAL from ${formatLsn(earlier.start)} to ${formatLsn(kept.start)}`)
      await this.#streamTimelines(connection, server, proving)
    }
  }

  /** A primary that is behind what it once sent as flushed has lost it, or is a copy of its former self. */
  #checkNotSetBack(stored: ResumePosition, server: ServerLog): void {
    if (stored.start <= server.end) return
    const where = describeConnection(this.#config)
    const positions = `the repository holds its log up to ${formatLsn(stored.start)}, the server is at ${formatLsn(server.end)}`
    if (server.facts.standby)
      throw new RegainError('source-unavailable', `${where} has to catch up with its primary: ${positions}.`)
    throw new RegainError('log-conflict', `${where} was set back: ${positions}. Nothing was stored.`, {
      hint: 'If a copy of the disk was put back, promote the server to a new timeline, or give it a source of its own.',
    })
  }

  async #streamTimelines(connection: ReplicationConnection, server: ServerLog, from: ResumePosition): Promise<void> {
    let position = from
    let current = server
    for (;;) {
      throwIfInterrupted(this.#options.signal)
      const end = await this.#streamOne(connection, current, position)
      if (end === null) return
      const history = await storeHistory(connection, this.#store, end.timeline)
      this.#options.warn(
        `The server went over to timeline ${end.timeline} at ${formatLsn(end.lsn)}; its log is followed there.`,
      )
      position = positionAt(end.lsn, history, server.facts.segmentBytes)
      // A promotion is one way to a new timeline: whose clock counts may have changed.
      current = { facts: await readServerFacts(this.#config, this.#hard.signal), end: end.lsn }
    }
  }

  /** Null: stopped. */
  async #streamOne(
    connection: ReplicationConnection,
    server: ServerLog,
    position: ResumePosition,
  ): Promise<{ timeline: number; lsn: Lsn } | null> {
    const { segmentBytes, standby } = server.facts
    const name = segmentName(position.timeline, segmentNumber(position.start, segmentBytes), segmentBytes)
    const tail = await this.#store.read(branchName(position.timeline), name)
    const stream = new WalStream({
      connection,
      store: this.#store,
      ambient: this.#ambient,
      slot: this.#slot,
      timeline: position.timeline,
      start: position.start,
      segmentBytes,
      tailMs: this.#tailMs,
      statusMs: await this.#statusMs(connection),
      ...(this.#silenceMs === undefined ? {} : { silenceMs: this.#silenceMs }),
      untilMs: tail ? Date.parse(tail.meta.until) : 0,
      // The server's position was read after its clock.
      mark: standby ? null : { end: server.end, clockMs: Date.parse(server.facts.now) },
      standby,
      stored: tail && !tail.whole ? tail.bytes : Buffer.alloc(0),
      status: (status) => this.#report(status),
      conflict: (segment, error) => this.#onConflict(segment, error),
    })
    this.#stream = stream
    const ended = new AbortController()
    const heard = {
      message: (to: Lsn, clockMs: number) => stream.clock.onMessage(to, clockMs),
      mark: (mark: LogMark) => stream.clock.addMark(mark),
    }
    const watching = standby ? watchStandbyClock(this.#config, ended.signal, heard) : null
    try {
      const end = await stream.run()
      return end.kind === 'stopped' ? null : end
    } finally {
      this.#stream = null
      ended.abort()
      await watching
    }
  }

  /** A quarter of what the server waits, so that a lost message does not end the connection. */
  async #statusMs(connection: ReplicationConnection): Promise<number> {
    const timeoutMs = parseDurationMs(await connection.show('wal_sender_timeout'))
    const wantedMs = Math.min(this.#tailMs, MAX_STATUS_MS)
    return timeoutMs === 0 ? wantedMs : Math.max(10, Math.min(wantedMs, timeoutMs / 4))
  }

  /** Tails whose segment was stored whole just before a crash. */
  async #dropStaleTails(listing: Awaited<ReturnType<LogStore['list']>>): Promise<void> {
    const whole = new Set(listing.segments.map(({ branch, name }) => `${branch}/${name}`))
    for (const { branch, name } of listing.tails)
      if (whole.has(`${branch}/${name}`)) await this.#store.dropTails(branch, name)
  }

  #onConflict(segment: string, error: RegainError): void {
    this.#ambient.log('error', 'log conflict', { segment, reason: error.message })
    this.#break(
      `the repository holds other bytes for the segment ${segment} than the server sends (two servers may be writing the same log)`,
    )
  }

  #break(reason: string): void {
    this.#needsPoint = reason
    this.#options.warn(
      `The log has a break: ${reason}. Moments across it cannot be recovered; take a new recovery point now.`,
    )
  }

  #explain(error: unknown): unknown {
    if (sqlStateOf(error) !== SLOT_UNUSABLE) return error
    return new RegainError(
      'source-unavailable',
      `The replication slot "${this.#slot}" can no longer be used. The next attempt makes a new one.`,
      { cause: error },
    )
  }

  #report(status: WalStatus): void {
    this.#options.status({
      durable: formatLsn(status.durable),
      server: formatLsn(status.server),
      lagBytes: Number(status.server - status.durable),
      // 0: this run has neither met the log's clock nor found a tail that says its moment.
      durableUntil: status.untilMs === 0 ? null : new Date(status.untilMs).toISOString(),
      ...(this.#needsPoint === undefined ? {} : { needsPoint: this.#needsPoint }),
    })
  }
}

interface ServerLog {
  facts: ServerFacts
  /** How far its WAL went, after `facts` was read. */
  end: Lsn
}

/** '1min', '5s', '2500ms', '0': a time as SHOW prints it, in ms. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+)\s*(us|ms|s|min|h|d)?$/.exec(text.trim())
  const unitMs = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[match?.[2] ?? 'ms'] ?? 1
  return match ? Number(match[1]) * unitMs : 0
}
