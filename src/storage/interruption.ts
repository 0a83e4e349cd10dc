import type { Bytes, CallOptions, Immutability, ObjectCache, Storage, StoredObject, WriteOptions } from './contract.ts'

/** What a call may still take after somebody interrupted, who is promised an end within seconds. */
const GRACE_MS = 10_000

/**
 * Calls that bring no signal of their own are such as should be brought to their end: a commit, the opening of a repository, a
 * piece of the log. Against a store that does not answer they would go on for minutes; so once `interrupt` has fired, each
 * gets ten seconds more, together, and is `interrupted` then. What came of a write is unknown then, as after any lost answer.
 */
export function withInterruption(inner: Storage, interrupt: AbortSignal, graceMs = GRACE_MS): Storage {
  return new InterruptibleStorage(inner, interrupt, graceMs)
}

class InterruptibleStorage implements Storage {
  readonly description: string
  readonly localDirectory?: string
  readonly immutability?: Immutability
  readonly cache?: ObjectCache
  readonly setRoomAside?: Storage['setRoomAside']
  readonly lastTimeMs?: () => number | null
  readonly #inner: Storage
  readonly #limit = new AbortController()
  readonly #interrupt: AbortSignal
  readonly #begin: () => void

  constructor(inner: Storage, interrupt: AbortSignal, graceMs: number) {
    this.#inner = inner
    this.#interrupt = interrupt
    this.#begin = () => void setTimeout(() => this.#limit.abort(), graceMs).unref()
    if (interrupt.aborted) this.#begin()
    else interrupt.addEventListener('abort', this.#begin, { once: true })
    this.description = inner.description
    if (inner.localDirectory !== undefined) this.localDirectory = inner.localDirectory
    if (inner.lastTimeMs !== undefined) this.lastTimeMs = inner.lastTimeMs
    if (inner.cache !== undefined) this.cache = inner.cache
    if (inner.setRoomAside !== undefined) this.setRoomAside = (options) => inner.setRoomAside!(this.#with(options))
    const { immutability } = inner
    if (immutability !== undefined)
      this.immutability = {
        periodMs: immutability.periodMs,
        extend: (name, options) => immutability.extend(name, this.#with(options)),
        isExtended: (name, options) => immutability.isExtended(name, this.#with(options)),
        lockedUntil: (name, options) => immutability.lockedUntil(name, this.#with(options)),
      }
  }

  put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    return this.#inner.put(name, bytes, this.#with(options))
  }

  create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    return this.#inner.create(name, bytes, this.#with(options))
  }

  get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    return this.#inner.get(name, range, this.#with(options))
  }

  size(name: string, options?: CallOptions): Promise<number | null> {
    return this.#inner.size(name, this.#with(options))
  }

  list(prefix: string, options?: CallOptions): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix, this.#with(options))
  }

  delete(name: string, options?: CallOptions): Promise<void> {
    return this.#inner.delete(name, this.#with(options))
  }

  close(): Promise<void> {
    this.#interrupt.removeEventListener('abort', this.#begin)
    return this.#inner.close()
  }

  #with<T extends CallOptions>(options: T | undefined): T {
    return options?.signal === undefined ? ({ ...options, signal: this.#limit.signal } as T) : options
  }
}
