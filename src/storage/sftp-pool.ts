import { setTimeout as delay } from 'node:timers/promises'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import { connectSftp, type SftpConnection, type SftpServer } from './sftp-connection.ts'
import type { SftpSession } from './sftp-session.ts'
import { Slots } from './slots.ts'

/** Files that are read or written at a time. Servers limit open handles, and one connection has one speed. */
const OPERATIONS = 8

/** How long interrupted work may take to clean up when the store is closed. */
const CLOSE_WAIT_MS = 5_000

/**
 * One connection, made when it is first needed, and made again for the next call after it was lost: the calls that were
 * under way fail, and whoever retries them decides when.
 */
export class SftpPool {
  readonly #server: SftpServer
  readonly #slots = new Slots(OPERATIONS)
  readonly #running = new Set<Promise<unknown>>()
  #connection: Promise<SftpConnection> | null = null
  #closed = false

  constructor(server: SftpServer) {
    this.#server = server
  }

  /**
   * Does `work` with a session. Rejects with `interrupted` as soon as the signal fires, even if the server is silent;
   * the work goes on to its next look at the signal, and then only cleans up.
   */
  async use<T>(signal: AbortSignal | undefined, work: (session: SftpSession) => Promise<T>): Promise<T> {
    throwIfInterrupted(signal)
    if (this.#closed) throw new RegainError('internal', 'A store was used after it was closed.')
    const running = this.#slots.with(signal, async () => {
      const session = await this.#session()
      throwIfInterrupted(signal)
      return work(session)
    })
    this.#running.add(running)
    const forget = () => this.#running.delete(running)
    running.then(forget, forget)
    return untilInterrupted(running, signal)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const stop = new AbortController()
    const wait = delay(CLOSE_WAIT_MS, undefined, { signal: stop.signal }).catch(() => undefined)
    await Promise.race([Promise.allSettled(this.#running), wait])
    stop.abort()
    // One that could not be made has nothing to close, and its callers were told.
    const connection = await this.#connection?.catch(() => null)
    await connection?.close()
    await Promise.allSettled(this.#running)
  }

  async #session(): Promise<SftpSession> {
    const known = this.#connection
    if (known !== null) {
      const { session } = await known
      if (!session.isLost) return session
      // Of several that find it lost, the first one replaces it.
      if (this.#connection === known) this.#connection = null
    }
    this.#connection ??= this.#connect()
    return (await this.#connection).session
  }

  async #connect(): Promise<SftpConnection> {
    try {
      return await connectSftp(this.#server)
    } catch (error) {
      this.#connection = null
      throw error
    }
  }
}

function untilInterrupted<T>(running: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return running
  return new Promise((resolve, reject) => {
    const interrupt = () =>
      reject(new RegainError('interrupted', 'The operation was interrupted.', { cause: signal.reason }))
    signal.addEventListener('abort', interrupt, { once: true })
    const done = () => signal.removeEventListener('abort', interrupt)
    running.then(resolve, reject)
    running.then(done, done)
  })
}
