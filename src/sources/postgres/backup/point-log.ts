import { setTimeout as delay } from 'node:timers/promises'
import { isRegainError, throwIfInterrupted } from '../../../errors.ts'
import type { Ambient } from '../../../model.ts'
import type { LogStore, SourceOptions } from '../../contract.ts'
import { settlesWithin } from '../bounded.ts'
import { createSlot, readSlot } from '../log/slot.ts'
import { segmentName, segmentNumber, segmentStart } from '../log/wal.ts'
import { WalStream } from '../log/wal-stream.ts'
import { connectReplication } from '../protocol/connection.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import type { Lsn } from '../protocol/lsn.ts'
import type { ReplicationConnection } from '../protocol/replication-connection.ts'

/**
 * Sees to it that the log which a base backup needs, from its start to its stop, is durable in the log store before the
 * point may be committed. Where a follower is at work it does that. Else the log is received here while the backup runs,
 * behind a temporary slot, so that the server neither forgets it nor has to keep it for long.
 */
export interface PointLogRequest {
  config: ConnectionConfig
  store: LogStore
  ambient: Ambient
  /** Slot of this source's follower. */
  slot: string
  segmentBytes: number
  standby: boolean
  /** A moment before the backup, by the server's clock, ms. */
  beganMs: number
  options: SourceOptions
}

const STATUS_MS = 1000
/** How long the last segment may take to appear in the store while a follower is at work. */
const FOLLOWER_MS = 60_000
/** How long a standby may take to receive the end of its last segment; then the beginning must do. */
const STANDBY_MS = 3000
const LOOK_MS = 250
const FOLLOWER_LOOK_MS = 5000

export class PointLog {
  readonly #request: PointLogRequest
  readonly #connection: ReplicationConnection
  readonly #temporarySlot: string | null
  readonly #followed: boolean
  #start: { timeline: number; lsn: Lsn } | null = null
  #stream: WalStream | null = null
  #streaming: Promise<unknown> = Promise.resolve()
  #failure: Error | null = null

  private constructor(
    request: PointLogRequest,
    connection: ReplicationConnection,
    temporarySlot: string | null,
    followed: boolean,
  ) {
    this.#request = request
    this.#connection = connection
    this.#temporarySlot = temporarySlot
    this.#followed = followed
  }

  /** Before the backup begins. Close it. */
  static async open(request: PointLogRequest): Promise<PointLog> {
    const { config, options } = request
    const followed = (await readSlot(config, request.slot, options.signal))?.active === true
    const connection = await connectReplication(config, options.signal)
    try {
      return new PointLog(request, connection, followed ? null : await reserve(connection, request), followed)
    } catch (error) {
      await connection.close()
      throw error
    }
  }

  /** The backup has begun: its log starts at `lsn`. */
  begin(timeline: number, lsn: Lsn): void {
    this.#start = { timeline, lsn }
    if (!this.#followed) this.#receive(segmentStart(lsn, this.#request.segmentBytes))
  }

  /** Resolves when everything from the beginning to `stop` is durable. */
  async finish(stop: Lsn): Promise<void> {
    if (this.#followed && (await this.#appears(stop))) return
    const { segmentBytes, options } = this.#request
    if (!this.#stream) {
      options.warn('The log follower does not keep up; the log of this point is received apart.')
      this.#receive(segmentStart(await this.#durableEnd(), segmentBytes))
    }
    // A primary fills the last segment up when a backup ends, so it arrives whole.
    const end = segmentStart(stop - 1n, segmentBytes) + BigInt(segmentBytes)
    if (this.#request.standby) await this.#finishStandby(stop, end)
    else await this.#whenDurable(end)
  }

  /** Ends everything. Safe after any failure. */
  async close(): Promise<void> {
    this.#stream?.stop()
    await this.#streaming
    await this.#connection.close()
  }

  #receive(start: Lsn): void {
    const { store, ambient, segmentBytes, standby, options } = this.#request
    const stream = new WalStream({
      connection: this.#connection,
      store,
      ambient,
      slot: this.#temporarySlot,
      timeline: this.#start?.timeline ?? 1,
      start,
      segmentBytes,
      tailMs: null,
      statusMs: STATUS_MS,
      // The checkpoint that the backup began with came after this moment. Of a standby the point itself says what it holds.
      untilMs: standby ? 0 : this.#request.beganMs,
      mark: null,
      standby,
      stored: Buffer.alloc(0),
      status: () => undefined,
      conflict: (segment, error) => {
        // A follower can go on behind a conflict; a point whose own log is in doubt is none.
        this.#failure = error
        this.#connection.abandon(error)
        options.warn(`The repository holds other bytes for the log segment ${segment} than the server sends.`)
      },
    })
    this.#stream = stream
    this.#streaming = stream.run().catch((error: unknown) => {
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
    })
  }

  async #whenDurable(lsn: Lsn): Promise<void> {
    await this.#stream?.whenDurable(lsn).catch((error: unknown) => {
      throw this.#failure ?? error
    })
    if (this.#failure) throw this.#failure
  }

  /** Its primary may be idle, and then the segment is never filled up: what is needed of it is stored as a tail. */
  async #finishStandby(stop: Lsn, end: Lsn): Promise<void> {
    const whole = this.#whenDurable(end)
    // Handled where it is returned; until then, and if only the tail is waited for, it may reject unseen.
    whole.catch(() => undefined)
    if (await settlesWithin(whole, STANDBY_MS)) return whole
    this.#stream?.shipTail()
    await this.#whenDurable(stop)
  }

  /** Whether a follower at work brings everything before `stop`; gives up after a minute without progress. */
  async #appears(stop: Lsn): Promise<boolean> {
    let end = await this.#durableEnd()
    for (let idleMs = 0; end < stop && idleMs < FOLLOWER_MS; idleMs += LOOK_MS) {
      throwIfInterrupted(this.#request.options.signal)
      await delay(LOOK_MS)
      const now = await this.#durableEnd()
      if (now > end) idleMs = 0
      end = now
      if (idleMs % FOLLOWER_LOOK_MS === 0 && !(await this.#followerLives())) break
    }
    return end >= stop
  }

  async #followerLives(): Promise<boolean> {
    const slot = await readSlot(this.#request.config, this.#request.slot, this.#request.options.signal)
    return slot?.active === true
  }

  /** How far the store holds the log from the backup's start without a break: whole segments, then a tail. */
  async #durableEnd(): Promise<Lsn> {
    const { store, segmentBytes } = this.#request
    const start = this.#start
    if (!start) throw new Error('a log that was not begun')
    const { segments, tails } = await store.list()
    const there = new Set(segments.map(({ name }) => name))
    const nameOf = (number: bigint): string => segmentName(start.timeline, number, segmentBytes)
    let number = segmentNumber(start.lsn, segmentBytes)
    while (there.has(nameOf(number))) number++
    const tail = tails.find(({ name }) => name === nameOf(number))
    return number * BigInt(segmentBytes) + BigInt(tail?.available ?? 0)
  }
}

/** A slot that ends with the connection. Without a free one the log is received all the same, a little less safely. */
async function reserve(connection: ReplicationConnection, request: PointLogRequest): Promise<string | null> {
  const name = `regain_point_${request.ambient.randomBytes(8).toString('hex')}`
  try {
    await createSlot(connection, name, true)
    return name
  } catch (error) {
    if (!isRegainError(error, 'source-unsuitable')) throw error
    request.options.warn(
      `No replication slot is free for this backup (${error.message}) The server may forget log before it is stored; then the backup fails.`,
    )
    return null
  }
}
