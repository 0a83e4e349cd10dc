import type { Bytes, CallOptions, Immutability, Storage, StoredObject, WriteOptions } from './contract.ts'
import { lengthOf } from './pieces.ts'
import { Rate } from './rate.ts'
import { REAL_WAITING, type Waiting } from './waiting.ts'

/** Absent: no limit. */
export interface Limits {
  uploadBytesPerSecond?: number
  downloadBytesPerSecond?: number
  requestsPerSecond?: number
}

/**
 * Holds the calls to a store to rates, each an average over some seconds: an object or range goes at the speed of the
 * line, and the next one waits until it is paid for.
 */
export function withLimits(inner: Storage, limits: Limits, waiting: Waiting = REAL_WAITING): Storage {
  return Object.values(limits).some((limit) => limit !== undefined) ? new LimitedStorage(inner, limits, waiting) : inner
}

class LimitedStorage implements Storage {
  readonly description: string
  readonly immutability?: Immutability
  readonly lastTimeMs?: () => number | null
  readonly #inner: Storage
  readonly #upload: Rate | null
  readonly #download: Rate | null
  readonly #requests: Rate | null

  constructor(inner: Storage, limits: Limits, waiting: Waiting) {
    const rate = (perSecond: number | undefined) => (perSecond === undefined ? null : new Rate(perSecond, waiting))
    this.#inner = inner
    this.#upload = rate(limits.uploadBytesPerSecond)
    this.#download = rate(limits.downloadBytesPerSecond)
    this.#requests = rate(limits.requestsPerSecond)
    this.description = inner.description
    if (inner.lastTimeMs !== undefined) this.lastTimeMs = inner.lastTimeMs
    const { immutability } = inner
    if (immutability !== undefined) {
      this.immutability = {
        periodMs: immutability.periodMs,
        extend: (name, options) => this.#request(options, () => immutability.extend(name, options)),
        isExtended: (name, options) => this.#request(options, () => immutability.isExtended(name, options)),
        lockedUntil: (name, options) => this.#request(options, () => immutability.lockedUntil(name, options)),
      }
    }
  }

  async put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    await this.#upload?.take(lengthOf(bytes), options?.signal)
    return this.#request(options, () => this.#inner.put(name, bytes, options))
  }

  async create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    await this.#upload?.take(lengthOf(bytes), options?.signal)
    return this.#request(options, () => this.#inner.create(name, bytes, options))
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    // The size of a whole object is known afterwards only: what comes next waits for it.
    await this.#download?.take(range?.length ?? 0, options?.signal)
    const bytes = await this.#request(options, () => this.#inner.get(name, range, options))
    if (range === undefined) await this.#download?.take(bytes.length, options?.signal)
    return bytes
  }

  size(name: string, options?: CallOptions): Promise<number | null> {
    return this.#request(options, () => this.#inner.size(name, options))
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    await this.#requests?.take(1, options?.signal)
    yield* this.#inner.list(prefix, options)
  }

  delete(name: string, options?: CallOptions): Promise<void> {
    return this.#request(options, () => this.#inner.delete(name, options))
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #request<T>(options: CallOptions | undefined, work: () => Promise<T>): Promise<T> {
    await this.#requests?.take(1, options?.signal)
    return work()
  }
}
