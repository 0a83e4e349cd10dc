import { isRegainError, RegainError, throwIfInterrupted } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { Bytes, CallOptions, Immutability, Storage, StoredObject, WriteOptions } from './contract.ts'
import { isCurrentLock, lockUntil } from './lock-period.ts'
import { checkObjectName, checkPrefix, isObjectName } from './names.ts'
import { markNotApplied, markUnclear } from './not-applied.ts'
import { checkRange } from './ranges.ts'
import type { S3Calls } from './s3-calls.ts'
import type { NamedVersion, Version } from './s3-version-pages.ts'

/** Versions remembered: some 200 bytes each. */
const MAX_REMEMBERED = 50_000
/** Every version of a listing was gone when it was asked for: all were replaced since. So often in a row would be a bug. */
const MAX_LOOKS = 10

/**
 * A bucket that keeps versions, locked or not (docs/decisions/0019-s3-versions.md):
 *
 *   **An object is the oldest version of its name. Delete markers mean nothing.**
 *
 * Nobody can put an older version below another, and a locked one cannot be removed: so whoever has the store's
 * credentials can hide nothing that is locked, by no overwriting and no marker. And create-if-absent holds also where
 * the store ignores If-None-Match (radosgw does, in buckets with versions): the oldest version wins, everybody sees the
 * same one, and the others take theirs back.
 *
 * Writing over an object removes the versions below; removing one removes all its versions, the oldest last, so that
 * none that had lost ever becomes the object. A locked object can therefore be neither replaced nor removed:
 * `storage-locked`.
 */
export class VersionedS3Storage implements Storage {
  readonly description: string
  readonly immutability?: Immutability
  readonly lastTimeMs: () => number | null
  readonly #calls: S3Calls
  readonly #periodMs: number | null
  readonly #ambient: Pick<Ambient, 'now'>
  /** The oldest version of a name. It stays the oldest for as long as it is there at all, so this is never wrong. */
  readonly #oldest = new Map<string, Version>()

  constructor(calls: S3Calls, immutableMs: number | null, ambient: Pick<Ambient, 'now'>) {
    this.#calls = calls
    this.lastTimeMs = () => calls.lastTimeMs
    this.#periodMs = immutableMs
    this.#ambient = ambient
    this.description = calls.description
    if (immutableMs !== null) {
      this.immutability = {
        periodMs: immutableMs,
        extend: (name, options) => this.#extend(name, immutableMs, options),
        isExtended: async (name, options) =>
          isCurrentLock(await this.#lockedUntil(name, options), this.#now(), immutableMs),
        lockedUntil: async (name, options) => {
          const untilMs = await this.#lockedUntil(name, options)
          return untilMs > this.#now() ? untilMs : 0
        },
      }
    }
  }

  async put(name: string, bytes: Bytes, options: WriteOptions = {}): Promise<void> {
    begin(name, options)
    // What is locked itself could not be taken back, and would be in the way when the lock of the one below has ended.
    if (options.keep && this.#periodMs !== null) await beforeWriting(() => this.#refuseIfLocked(name, options))
    const { versionId } = await this.#write(name, bytes, options, false)
    await afterWriting(async () => {
      const versions = await this.#calls.versions(name, options)
      const own = versions.findIndex(({ id }) => id === versionId)
      // Not there: another put came after this one and has removed it already.
      if (own < 0) return
      try {
        await this.#remove(name, versions.slice(own + 1), options)
      } catch (error) {
        if (isRegainError(error, 'storage-locked')) await this.#takeBack(name, versions[own]!.id)
        throw error
      }
    })
    this.#oldest.delete(name)
  }

  async create(name: string, bytes: Bytes, options: WriteOptions = {}): Promise<boolean> {
    begin(name, options)
    // Looked at first: on a store that ignores If-None-Match, what comes too late should not go up at all.
    if ((await beforeWriting(() => this.size(name, options))) !== null) return false
    const { versionId } = await this.#write(name, bytes, options, true)
    if (versionId === null) return false
    const oldest = await afterWriting(async () => (await this.#calls.versions(name, options)).at(-1))
    if (oldest?.id === versionId) {
      this.#remember(name, oldest)
      return true
    }
    await this.#takeBack(name, versionId)
    return false
  }

  async get(name: string, range?: { offset: number; length: number }, options: CallOptions = {}): Promise<Buffer> {
    checkRange(range)
    begin(name, options)
    const isEmptyRange = range?.length === 0
    const asked = isEmptyRange ? { offset: 0, length: 1 } : range
    const bytes = await this.#withOldest(name, options, ({ id }) => this.#calls.get(name, asked, id, options))
    if (bytes === null) throw this.#notFound(name)
    return isEmptyRange ? Buffer.alloc(0) : bytes
  }

  async size(name: string, options: CallOptions = {}): Promise<number | null> {
    begin(name, options)
    // What is remembered may be gone: that is only noticed by reading it.
    const oldest = (await this.#calls.versions(name, options)).at(-1)
    if (oldest === undefined) this.#oldest.delete(name)
    else this.#remember(name, oldest)
    return oldest?.sizeBytes ?? null
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    throwIfInterrupted(options.signal)
    // The newest comes first: the last one of a name is the object.
    let last: NamedVersion | null = null
    for await (const version of this.#calls.listVersions(prefix, options)) {
      if (last !== null && last.name !== version.name) yield* this.#listed(last)
      last = version
    }
    if (last !== null) yield* this.#listed(last)
  }

  async delete(name: string, options: CallOptions = {}): Promise<void> {
    begin(name, options)
    await this.#remove(name, await this.#calls.versions(name, options), options)
    this.#oldest.delete(name)
  }

  async close(): Promise<void> {
    this.#calls.close()
  }

  async #write(
    name: string,
    bytes: Bytes,
    { keep, signal }: WriteOptions,
    ifAbsent: boolean,
  ): Promise<{ versionId: string | null }> {
    const until = keep && this.#periodMs !== null ? { lockUntilMs: lockUntil(this.#now(), this.#periodMs) } : {}
    const written = await this.#calls.put(name, bytes, { ifAbsent, ...until, ...(signal ? { signal } : {}) })
    if (written === 'exists') return { versionId: null }
    if (written.versionId !== null) return { versionId: written.versionId }
    throw new RegainError(
      'storage-unsuitable',
      `${this.description} keeps versions but did not name the one it made of ${name}, so nothing can be relied on there.`,
    )
  }

  /** The oldest last: until that is gone, the object is what it was. */
  async #remove(name: string, versions: readonly Version[], options: CallOptions): Promise<void> {
    for (const { id } of versions) {
      try {
        await this.#calls.delete(name, id, options)
      } catch (error) {
        throw isRegainError(error, 'storage-denied') ? await this.#whyNotRemoved(error, name, id, options) : error
      }
    }
  }

  async #whyNotRemoved(denied: RegainError, name: string, id: string, options: CallOptions): Promise<RegainError> {
    const untilMs = await this.#calls.lockedUntil(name, id, options).catch(() => null)
    return untilMs === null || untilMs <= this.#now() ? denied : this.#lockedError(name, untilMs)
  }

  async #refuseIfLocked(name: string, options: CallOptions): Promise<void> {
    for (const { id } of await this.#calls.versions(name, options)) {
      const untilMs = await this.#calls.lockedUntil(name, id, options)
      if (untilMs !== null && untilMs > this.#now()) throw this.#lockedError(name, untilMs)
    }
  }

  #lockedError(name: string, untilMs: number): RegainError {
    const until = new Date(untilMs).toISOString()
    return new RegainError(
      'storage-locked',
      `Object ${name} in ${this.description} is locked until ${until}: until then nobody can replace or remove it. It is as it was.`,
    )
  }

  /** Of a version that came too late. If it stays, it is only in the way: it never becomes the object before another. */
  async #takeBack(name: string, id: string): Promise<void> {
    try {
      await this.#calls.delete(name, id, {})
    } catch (error) {
      // Whoever removes the object removes this version first.
      if (!(error instanceof RegainError)) throw error
    }
  }

  /**
   * What `work` gives for the object, or null if there is none. `work` gives null if the version is gone. Then those that
   * came after it are tried, of the same listing: nothing older can come, so the first of them that is there is the object
   * now. (A new listing each time would starve a reader in step with a writer: it would always see the version that is
   * about to go.)
   */
  async #withOldest<T>(
    name: string,
    options: CallOptions,
    work: (version: Version) => Promise<T | null>,
  ): Promise<T | null> {
    const known = this.#oldest.get(name)
    if (known !== undefined) {
      const done = await work(known)
      if (done !== null) return done
      if (this.#oldest.get(name)?.id === known.id) this.#oldest.delete(name)
    }
    for (let look = 0; look < MAX_LOOKS; look++) {
      const versions = await this.#calls.versions(name, options)
      if (versions.length === 0) return null
      for (const version of versions.toReversed()) {
        const done = await work(version)
        if (done === null) continue
        this.#remember(name, version)
        return done
      }
    }
    throw new RegainError(
      'storage-unavailable',
      `Object ${name} in ${this.description} changes faster than it can be read.`,
    )
  }

  #notFound(name: string): RegainError {
    return new RegainError('storage-not-found', `There is no object ${name} in ${this.description}.`)
  }

  *#listed({ name, id, sizeBytes }: NamedVersion): Generator<StoredObject> {
    if (!isObjectName(name)) return
    this.#remember(name, { id, sizeBytes })
    yield { name, size: sizeBytes }
  }

  #remember(name: string, version: Version): void {
    this.#oldest.delete(name)
    if (this.#oldest.size >= MAX_REMEMBERED) this.#oldest.delete(this.#oldest.keys().next().value!)
    this.#oldest.set(name, version)
  }

  async #extend(name: string, periodMs: number, options: CallOptions = {}): Promise<void> {
    begin(name, options)
    const untilMs = lockUntil(this.#now(), periodMs)
    const lock = async ({ id }: Version) => ((await this.#calls.lock(name, id, untilMs, options)) ? true : null)
    if ((await this.#withOldest(name, options, lock)) === null) throw this.#notFound(name)
  }

  /** 0 if there is no lock, or no object. */
  async #lockedUntil(name: string, options: CallOptions = {}): Promise<number> {
    begin(name, options)
    return (await this.#withOldest(name, options, ({ id }) => this.#calls.lockedUntil(name, id, options))) ?? 0
  }

  /** The store's clock decides when a lock ends, so it also decides what is asked for. */
  #now(): number {
    return this.#calls.serverTime(this.#ambient.now())
  }
}

function begin(name: string, options: CallOptions): void {
  checkObjectName(name)
  throwIfInterrupted(options.signal)
}

async function beforeWriting<T>(look: () => Promise<T>): Promise<T> {
  try {
    return await look()
  } catch (error) {
    throw isRegainError(error, 'storage-unavailable') ? markNotApplied(error) : error
  }
}

async function afterWriting<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    markUnclear(error)
    throw error
  }
}
