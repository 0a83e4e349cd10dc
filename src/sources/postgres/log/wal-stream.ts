import { isRegainError, RegainError } from '../../../errors.ts'
import type { Ambient } from '../../../model.ts'
import type { LogStore } from '../../contract.ts'
import { settlesWithin } from '../bounded.ts'
import { formatLsn, type Lsn, laterLsn, parseLsn } from '../protocol/lsn.ts'
import type { ReplicationConnection, ResultSet } from '../protocol/replication-connection.ts'
import { encodeStatus, type Keepalive, type WalHeader, WalReader } from '../protocol/wal-messages.ts'
import { DurableWaiters } from './durable-waiters.ts'
import { LogClock, type LogMark } from './log-clock.ts'
import { SegmentWriter } from './segment-writer.ts'
import { TailWriter } from './tail-writer.ts'
import { branchName, segmentOffset } from './wal.ts'

export interface WalStreamRequest {
  connection: ReplicationConnection
  store: LogStore
  ambient: Ambient
  /** Null: without a slot; the server may then forget WAL that we have not read yet. */
  slot: string | null
  timeline: number
  /** The beginning of a segment. */
  start: Lsn
  segmentBytes: number
  /** How often the unfinished segment is shipped, in ms. Null: only at the end. */
  tailMs: number | null
  /** How often we report to the server, in ms; well below its wal_sender_timeout. */
  statusMs: number
  /** A server that answers nothing for so long is taken for gone, in ms. Default 60 s, as a standby's wal_receiver_timeout. */
  silenceMs?: number
  /** ms since the epoch up to which the log before `start` is known to be complete. */
  untilMs: number
  /** Known before the stream begins: up to this end the log is complete until this time. */
  mark: LogMark | null
  /** A standby's clock does not tell what is complete: see standby-clock.ts, and `clock`. */
  standby: boolean
  /** Bytes of the first segment that the store already holds as tails. */
  stored: Buffer
  status(status: WalStatus): void
  /** The store has other bytes of this segment. The stream goes on. */
  conflict(segment: string, error: RegainError): void
}

export interface WalStatus {
  durable: Lsn
  received: Lsn
  server: Lsn
  untilMs: number
}

/** `stopped`: by `stop`. Otherwise the server left this timeline at `lsn` for `timeline`. */
export type WalStreamEnd = { kind: 'stopped' } | { kind: 'timeline-end'; timeline: number; lsn: Lsn }

/** Whole segments that wait for the store; while one more would, the socket is held. */
const MAX_PENDING = 1
const STOP_MS = 10_000
const SILENCE_MS = 60_000
/** An idle log's `until` in the store is at most so many tail intervals old: a minute by default. */
const IDLE_TAILS = 20

interface Segment {
  start: Lsn
  buffer: Buffer
}

/**
 * The server's sender looks at what was asked of it first and sends new WAL after that (src/backend/replication/walsender.c,
 * WalSndLoop): behind its answer to a second question stands all that it had flushed when the first one was asked.
 */
const LAST_REPLIES = 2
const LAST_CALL_MS = 2000

/**
 * Receives one timeline's WAL from `start` into the log store: whole segments as they fill up, and in between the new
 * bytes of the unfinished one. Reports to the server as flushed only what the store made durable. Status goes out by a
 * timer of its own, so a slow store never makes the server hang up. Memory: two or three segments.
 */
export class WalStream {
  readonly #request: WalStreamRequest
  readonly #clock: LogClock
  readonly #reader: WalReader
  readonly #segments: SegmentWriter
  #current: Segment
  #filled = 0
  /** Of the current segment. */
  #tail: TailWriter
  #received: Lsn
  #durable: Lsn
  #server: Lsn
  #pending: Segment[] = []
  readonly #spare: Buffer[] = []
  #held = false
  /** Questions since the server last said anything. */
  #unanswered = 0
  #tailDue = false
  #finishing = false
  /** We are leaving: WAL that still arrives is not ours to keep. */
  #stopping = false
  #late: NodeJS.Timeout | undefined
  #lastCall: NodeJS.Timeout | undefined
  /** Answers of the server that are waited for before we leave. */
  #repliesDue = 0
  #copying = false
  #ended = false
  #next: { timeline: number; lsn: Lsn } | null = null
  #wake: (() => void) | null = null
  readonly #waiters = new DurableWaiters()

  constructor(request: WalStreamRequest) {
    if (segmentOffset(request.start, request.segmentBytes) !== 0) throw new Error('a WAL stream begins with a segment')
    this.#request = request
    this.#clock = new LogClock(request.untilMs, request.mark)
    this.#segments = new SegmentWriter(request)
    this.#current = { start: request.start, buffer: Buffer.allocUnsafeSlow(request.segmentBytes) }
    this.#tail = this.#tailOf(request.start, request.stored)
    this.#reader = new WalReader({
      header: (message) => this.#onHeader(message),
      wal: (piece, offset) => this.#append(piece, offset),
    })
    this.#received = request.start
    this.#durable = request.start + BigInt(request.stored.length)
    this.#server = request.start
  }

  /** For what a standby knows of its primary's clock. */
  get clock(): LogClock {
    return this.#clock
  }

  get durable(): Lsn {
    return this.#durable
  }

  /** Once only. Rejects when the connection or the store fails; what had been received was shipped as far as possible. */
  async run(): Promise<WalStreamEnd> {
    const { connection, statusMs, tailMs } = this.#request
    const timers = [setInterval(() => this.#askStatus(), statusMs)]
    if (tailMs !== null) timers.push(setInterval(() => this.shipTail(), tailMs))
    const storing = this.#storeAll().catch((error: Error) => {
      connection.abandon(error)
      throw error
    })
    // Awaited below, but maybe only after it failed: not to be taken for a rejection that nobody handles.
    storing.catch(() => undefined)
    try {
      await connection.run(this.#command(), {
        copyStart: () => this.#onCopyStart(),
        copyData: (piece, first) => this.#reader.push(piece, first),
        copyDone: () => this.#finish(),
        resultSet: (set) => this.#onNextTimeline(set),
      })
      this.#finish()
      await storing
      this.#waiters.fail(new RegainError('source-unavailable', 'The stream of WAL ended.'))
      return this.#next === null ? { kind: 'stopped' } : { kind: 'timeline-end', ...this.#next }
    } catch (error) {
      this.#finish()
      // The connection is gone, but what it brought is worth keeping: it may be all that is left of the server.
      await settlesWithin(storing, STOP_MS)
      const failure = error instanceof Error ? error : new Error(String(error))
      this.#waiters.fail(failure)
      if (this.#stopping && isRegainError(failure, 'interrupted')) return { kind: 'stopped' }
      throw failure
    } finally {
      for (const timer of timers) clearInterval(timer)
      clearTimeout(this.#late)
      clearTimeout(this.#lastCall)
      this.#ended = true
      this.#report()
    }
  }

  /**
   * Ends the stream in order: takes what the server has flushed by now, ships the tail, tells the server, and `run`
   * resolves; after 10 s it is cut off.
   */
  stop(): void {
    if (this.#late !== undefined || this.#ended) return
    this.#late = setTimeout(() => this.#request.connection.abandon(stopped()), STOP_MS)
    if (!this.#copying) {
      this.#leave()
      return
    }
    this.#repliesDue = LAST_REPLIES
    this.#lastCall = setTimeout(() => this.#leave(), LAST_CALL_MS)
    this.#sendStatus(true)
  }

  #leave(): void {
    clearTimeout(this.#lastCall)
    this.#stopping = true
    this.#finish()
  }

  /** Ships the unfinished segment's new bytes soon. */
  shipTail(): void {
    this.#tailDue = true
    this.#wake?.()
  }

  /** Resolves when everything before `lsn` is durable; rejects if the stream ends before. */
  whenDurable(lsn: Lsn): Promise<void> {
    if (this.#durable >= lsn) return Promise.resolve()
    return this.#waiters.wait(lsn)
  }

  #command(): string {
    const { slot, start, timeline } = this.#request
    return `START_REPLICATION ${slot === null ? '' : `SLOT "${slot}" `}PHYSICAL ${formatLsn(start)} TIMELINE ${timeline}`
  }

  /**
   * A machine that lost its power closes no connection, and TCP alone needs a quarter of an hour to notice. Questions are
   * counted, not time: while this process sleeps it asks none. While the store holds the stream up nothing is read at all.
   */
  #askStatus(): void {
    this.#sendStatus(true)
    if (!this.#copying || this.#held) return
    const { connection, statusMs, silenceMs = SILENCE_MS } = this.#request
    if (this.#unanswered++ * statusMs < silenceMs) return
    const silent = `The server has said nothing for ${Math.round(silenceMs / 1000)} s, though it was asked: it is taken for gone.`
    connection.abandon(new RegainError('source-unavailable', silent))
  }

  #onHeader(message: WalHeader | Keepalive): void {
    this.#unanswered = 0
    if (this.#stopping) return
    this.#server = laterLsn(this.#server, message.serverEnd)
    if (!this.#request.standby) this.#clock.onMessage(message.serverEnd, message.clockMs)
    if (message.kind === 'keepalive') {
      if (this.#repliesDue > 0) this.#onLastReply()
      else if (message.replyNow) this.#sendStatus(false)
      return
    }
    if (message.start !== this.#received) {
      throw new RegainError(
        'source-unavailable',
        `The server sent WAL from ${formatLsn(message.start)} where ${formatLsn(this.#received)} was due.`,
      )
    }
  }

  #onLastReply(): void {
    this.#repliesDue--
    if (this.#repliesDue === 0) this.#leave()
    else this.#sendStatus(true)
  }

  #onCopyStart(): void {
    this.#copying = true
    // Stopped before it began: what would end the stream has been done already.
    if (this.#stopping) this.#request.connection.sendCopyDone()
  }

  #append(bytes: Buffer, from: number): void {
    if (this.#stopping) return
    for (let offset = from; offset < bytes.length; ) {
      const copied = bytes.copy(this.#current.buffer, this.#filled, offset)
      offset += copied
      this.#filled += copied
      this.#received += BigInt(copied)
      if (this.#filled === this.#current.buffer.length) this.#completeSegment()
    }
  }

  #completeSegment(): void {
    this.#compareTail()
    this.#pending.push(this.#current)
    const start = this.#current.start + BigInt(this.#request.segmentBytes)
    this.#current = { start, buffer: this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#request.segmentBytes) }
    this.#filled = 0
    this.#tail = this.#tailOf(start, Buffer.alloc(0))
    if (this.#pending.length > MAX_PENDING && !this.#held) {
      this.#held = true
      this.#request.connection.pause()
    }
    this.#wake?.()
  }

  /** Whether the tails that the store had of this segment are what the server sends now. */
  #compareTail(): boolean {
    const { buffer } = this.#current
    if (this.#tail.agrees(buffer, this.#filled)) return true
    const name = this.#segments.nameOf(this.#current.start)
    const what = `The unfinished segment ${name} in the repository holds other bytes than the server sends now.`
    this.#request.conflict(name, new RegainError('log-conflict', what))
    return false
  }

  #onNextTimeline(set: ResultSet): void {
    const [row] = set.rows
    if (row?.[0] && row[1]) this.#next = { timeline: Number(row[0]), lsn: parseLsn(row[1]) }
  }

  #finish(): void {
    this.#finishing = true
    this.#tailDue = true
    this.#wake?.()
  }

  /** The only one that calls the store: one call at a time, in the order of the log. */
  async #storeAll(): Promise<void> {
    for (;;) {
      const segment = this.#pending[0]
      if (segment) {
        const end = segment.start + BigInt(this.#request.segmentBytes)
        await this.#segments.store(segment.start, segment.buffer, this.#clock.untilMs(end))
        this.#advance(end)
        this.#pending.shift()
        this.#spare.push(segment.buffer)
        if (this.#held && this.#pending.length <= MAX_PENDING) {
          this.#held = false
          this.#unanswered = 0
          this.#request.connection.resume()
        }
      } else if (this.#tailDue) {
        this.#tailDue = false
        await this.#storeTail()
      } else if (this.#finishing) {
        break
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve))
        this.#wake = null
      }
    }
    this.#sendStatus(false)
    if (!this.#copying) return
    this.#request.connection.sendCopyDone()
    this.#request.connection.resume()
  }

  async #storeTail(): Promise<void> {
    const tail = this.#tail
    if (!this.#compareTail()) await tail.drop()
    const { buffer, start } = this.#current
    const end = start + BigInt(this.#filled)
    if (await tail.ship(buffer, this.#filled, this.#clock.untilMs(end))) this.#advance(end)
  }

  #advance(end: Lsn): void {
    if (end <= this.#durable) return
    this.#durable = end
    this.#clock.forget(end)
    this.#sendStatus(false)
    this.#report()
    this.#waiters.reached(end)
  }

  #sendStatus(replyNow: boolean): void {
    if (!this.#copying) return
    this.#request.connection.sendCopyData(
      encodeStatus({ received: this.#received, flushed: this.#durable, nowMs: this.#request.ambient.now(), replyNow }),
    )
    if (replyNow) this.#report()
  }

  #report(): void {
    this.#request.status({
      durable: this.#durable,
      received: this.#received,
      server: laterLsn(this.#server, this.#durable),
      untilMs: this.#clock.untilMs(this.#durable),
    })
  }

  #tailOf(start: Lsn, stored: Buffer): TailWriter {
    const { store, timeline, tailMs, untilMs } = this.#request
    const idleMs = (tailMs ?? Number.POSITIVE_INFINITY) * IDLE_TAILS
    return new TailWriter({
      store,
      branch: branchName(timeline),
      name: this.#segments.nameOf(start),
      stored,
      untilMs,
      idleMs,
    })
  }
}

function stopped(): RegainError {
  return new RegainError('interrupted', 'The stream of WAL was stopped.')
}
