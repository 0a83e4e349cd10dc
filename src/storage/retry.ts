import { isRegainError, RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { Breaker } from './breaker.ts'
import type { Bytes, CallOptions, Immutability, Storage, StoredObject, WriteOptions } from './contract.ts'
import { isNotApplied, markNotApplied } from './not-applied.ts'
import { piecesOf } from './pieces.ts'
import { REAL_WAITING, type Waiting } from './waiting.ts'

const MAX_ATTEMPTS = 12
/** From the first failure of a call to its last attempt: an outage of some minutes must not end a backup of hours. */
const MAX_TOTAL_MS = 300_000
const FIRST_DELAY_MS = 100
const MAX_DELAY_MS = 20_000

/**
 * Repeats what a store that can be away for a moment (`storage-unavailable`) did not do, with exponential delays of full
 * jitter, so that many clients that failed together do not come back together.
 *
 * Reads, listings, deletes and locks can be repeated as they are. **A write is sent again only if it is certain that the
 * store turned it down** (not-applied.ts): a request whose answer was lost may be carried out late, even after the object
 * was removed again, and the protocol of removal does not survive that (docs/format.md, Writers, step 4). After an
 * unclear answer the store is looked at: if it holds these very bytes, the write succeeded; otherwise the failure is the
 * caller's to deal with, who knows whether another name may be taken.
 */
export function withRetries(
  inner: Storage,
  ambient: Pick<Ambient, 'randomBytes' | 'log'>,
  waiting: Waiting = REAL_WAITING,
): Storage {
  return new RetryingStorage(inner, ambient, waiting)
}

class RetryingStorage implements Storage {
  readonly description: string
  readonly immutability?: Immutability
  readonly lastTimeMs?: () => number | null
  readonly #inner: Storage
  readonly #ambient: Pick<Ambient, 'randomBytes' | 'log'>
  readonly #waiting: Waiting
  readonly #breaker: Breaker

  constructor(inner: Storage, ambient: Pick<Ambient, 'randomBytes' | 'log'>, waiting: Waiting) {
    this.#inner = inner
    this.#ambient = ambient
    this.#waiting = waiting
    this.description = inner.description
    if (inner.lastTimeMs !== undefined) this.lastTimeMs = inner.lastTimeMs
    this.#breaker = new Breaker(waiting, (isOpen) =>
      isOpen
        ? ambient.log('warning', `${inner.description} does not answer; it is tried again every few seconds.`)
        : ambient.log('info', `${inner.description} answers again.`),
    )
    const { immutability } = inner
    if (immutability !== undefined) {
      this.immutability = {
        periodMs: immutability.periodMs,
        extend: (name, options) => this.#repeat(options, () => immutability.extend(name, options)),
        isExtended: (name, options) => this.#repeat(options, () => immutability.isExtended(name, options)),
        lockedUntil: (name, options) => this.#repeat(options, () => immutability.lockedUntil(name, options)),
      }
    }
  }

  async put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    try {
      await this.#repeat(options, () => this.#inner.put(name, bytes, options), isNotApplied)
    } catch (error) {
      if ((await this.#look(error, name, bytes, options)) !== 'same') throw error
    }
  }

  async create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    try {
      return await this.#repeat(options, () => this.#inner.create(name, bytes, options), isNotApplied)
    } catch (error) {
      const found = await this.#look(error, name, bytes, options)
      if (found === 'nothing') throw error
      return found === 'same'
    }
  }

  get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    return this.#repeat(options, () => this.#inner.get(name, range, options))
  }

  size(name: string, options?: CallOptions): Promise<number | null> {
    return this.#repeat(options, () => this.#inner.size(name, options))
  }

  /** After a failure it begins anew, and what was told already is left out. */
  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    const told = new Set<string>()
    let listing = this.#inner.list(prefix, options)[Symbol.asyncIterator]()
    const next = async () => {
      try {
        return await listing.next()
      } catch (error) {
        listing = this.#inner.list(prefix, options)[Symbol.asyncIterator]()
        throw error
      }
    }
    try {
      for (;;) {
        const result = await this.#repeat(options, next)
        if (result.done) return
        if (told.has(result.value.name)) continue
        told.add(result.value.name)
        yield result.value
      }
    } finally {
      await listing.return?.()
    }
  }

  delete(name: string, options?: CallOptions): Promise<void> {
    return this.#repeat(options, () => this.#inner.delete(name, options))
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #repeat<T>(
    options: CallOptions | undefined,
    work: () => Promise<T>,
    mayRepeat: (error: unknown) => boolean = () => true,
  ): Promise<T> {
    let untilMs = this.#waiting.nowMs() + MAX_TOTAL_MS
    let failure: unknown = null
    for (let attempt = 1; ; attempt++) {
      if (!(await this.#breaker.pass(untilMs, options?.signal))) throw failure ?? this.#away()
      try {
        const result = await work()
        this.#breaker.succeeded()
        return result
      } catch (error) {
        if (!this.#isAway(error) || !mayRepeat(error)) throw error
        // From the first failure on: the call itself may have taken long.
        if (failure === null) untilMs = this.#waiting.nowMs() + MAX_TOTAL_MS
        failure = error
        if (attempt === MAX_ATTEMPTS || this.#waiting.nowMs() > untilMs) throw error
        await this.#waiting.sleep(this.#delayMs(attempt), options?.signal)
      }
    }
  }

  #away(): RegainError {
    const message = `${this.description} has not answered anybody for ${MAX_TOTAL_MS / 60_000} minutes. Nothing was sent.`
    return markNotApplied(new RegainError('storage-unavailable', message))
  }

  /** Keeps the breaker's books: every answer but this one shows that the store is there. */
  #isAway(error: unknown): boolean {
    if (isRegainError(error, 'storage-unavailable')) {
      this.#breaker.failed()
      return true
    }
    if (!(error instanceof RegainError) || error.code === 'interrupted') this.#breaker.left()
    else this.#breaker.succeeded()
    return false
  }

  /** Uniform between nothing and a limit that doubles. */
  #delayMs(attempt: number): number {
    const limit = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (attempt - 1))
    return (limit * this.#ambient.randomBytes(4).readUInt32LE()) / 2 ** 32
  }

  /** What the name stands for after a write of unclear outcome. Rejects with what speaks against looking. */
  async #look(
    error: unknown,
    name: string,
    bytes: Bytes,
    options: CallOptions | undefined,
  ): Promise<'same' | 'other' | 'nothing'> {
    if (!isRegainError(error, 'storage-unavailable') || isNotApplied(error)) throw error
    const { signal } = options ?? {}
    try {
      const found = await this.get(name, undefined, signal === undefined ? {} : { signal })
      return found.equals(Buffer.concat(piecesOf(bytes))) ? 'same' : 'other'
    } catch (lookError) {
      if (isRegainError(lookError, 'storage-not-found')) return 'nothing'
      // It cannot be looked at either: what failed first is what the caller must know.
      throw lookError instanceof RegainError && lookError.code !== 'interrupted' ? error : lookError
    }
  }
}
