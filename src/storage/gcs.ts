import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { Bytes, CallOptions, Immutability, Storage, StoredObject, WriteOptions } from './contract.ts'
import { refuseClearText } from './endpoint.ts'
import { googleToken } from './gcs-auth.ts'
import { GcsCalls, GcsRefusal } from './gcs-calls.ts'
import { isCurrentLock, lockUntil } from './lock-period.ts'
import { checkObjectName, checkPrefix, isObjectName } from './names.ts'
import { checkRange } from './ranges.ts'
import type { Request } from './silence.ts'

export interface GcsPlace {
  bucket: string
  /** Of all objects: 'regain/shop/'. Empty, or ends in a slash. */
  prefix: string
  /** https, or http to this machine; Google's own if absent. */
  endpoint?: string
  /** Path of a credentials file; null: Application Default Credentials. */
  credentials: string | null
  immutableMs?: number
}

const GOOGLE = 'https://storage.googleapis.com'
/** The most that the service gives. */
const LIST_PAGE = 1000

/**
 * Objects of one bucket of Google Cloud Storage, by its JSON API (docs/decisions/0017-azure-and-gcs.md). Each
 * goes up in one request, which makes it whole or not at all; `ifGenerationMatch=0` lets exactly one of several writers
 * make it; reads and listings show every write that was answered (Cloud Storage is strongly consistent).
 *
 * Immutable objects carry a locked retention (Object Retention Lock): until it ends the service neither replaces nor
 * removes them. Rejects with `storage-not-found` if there is no such bucket, with `storage-unsuitable` if it cannot
 * lock objects as the configuration wants.
 */
export async function openGcsStorage(place: GcsPlace, ambient: Pick<Ambient, 'now' | 'randomBytes'>): Promise<Storage> {
  const description = `gcs ${place.bucket}${place.prefix === '' ? '' : `/${place.prefix.replace(/\/$/, '')}`}`
  const endpoint = place.endpoint ?? GOOGLE
  refuseClearText(endpoint, description)
  const boundary = ambient.randomBytes(24).toString('hex')
  const calls = new GcsCalls(endpoint, place.bucket, googleToken(place.credentials), boundary)
  try {
    await checkBucket(calls, description, place)
    return new GcsStorage(calls, place, description, ambient)
  } catch (error) {
    calls.close()
    throw error
  }
}

async function checkBucket(calls: GcsCalls, description: string, { prefix, immutableMs }: GcsPlace): Promise<void> {
  await calls.call(`${description} could not be opened`, undefined, async (request) => {
    try {
      await calls.list(prefix, undefined, 1, request)
    } catch (error) {
      if (!isRefusal(error, 404)) throw error
      throw new RegainError('storage-not-found', `There is no bucket for ${description}.`, {
        hint: 'Make the bucket, or correct its name. Regain never makes one.',
      })
    }
  })
  if (immutableMs === undefined) return
  const attempt = `The bucket of ${description} could not be asked whether it locks objects`
  const { hasRetention, hasVersions } = await calls.call(attempt, undefined, (request) => calls.bucket(request))
  if (!hasRetention) {
    throw new RegainError(
      'storage-unsuitable',
      `The bucket of ${description} has no object retention, so nothing in it can be immutable. Nothing was written.`,
      {
        hint: 'Turn it on: gcloud storage buckets update gs://BUCKET --enable-per-object-retention; or remove immutable.',
      },
    )
  }
  if (hasVersions) {
    throw new RegainError(
      'storage-unsuitable',
      `The bucket of ${description} keeps versions, so an object that is locked could still be hidden by a newer one. Nothing was written.`,
      { hint: 'Use a bucket without versioning: locked objects of such a bucket cannot be replaced.' },
    )
  }
}

class GcsStorage implements Storage {
  readonly description: string
  readonly immutability?: Immutability
  readonly #calls: GcsCalls
  readonly #prefix: string
  readonly #periodMs: number | null
  readonly #ambient: Pick<Ambient, 'now'>

  constructor(calls: GcsCalls, place: GcsPlace, description: string, ambient: Pick<Ambient, 'now'>) {
    this.#calls = calls
    this.#prefix = place.prefix
    this.#periodMs = place.immutableMs ?? null
    this.#ambient = ambient
    this.description = description
    if (place.immutableMs !== undefined) this.immutability = this.#immutability(place.immutableMs)
  }

  async put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    await this.#upload(name, bytes, options, false)
  }

  async create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    return this.#upload(name, bytes, options, true)
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    checkObjectName(name)
    checkRange(range)
    const bytes = await this.#reading(name, options, async (request) => {
      // HTTP has no range of no bytes: the object must be there all the same.
      const span = range && { first: range.offset, last: range.offset + Math.max(range.length, 1) - 1 }
      const read = await this.#calls.download(this.#prefix + name, span ?? null, request).catch((error: unknown) => {
        // The range begins at the end of the object or behind it.
        if (isRefusal(error, 416)) return Buffer.alloc(0)
        throw error
      })
      return range?.length === 0 ? Buffer.alloc(0) : read
    })
    if (bytes === null) throw this.#noObject(name)
    return bytes
  }

  async size(name: string, options?: CallOptions): Promise<number | null> {
    checkObjectName(name)
    const found = await this.#reading(name, options, (request) => this.#calls.metadata(this.#prefix + name, request))
    return found?.size ?? null
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    const attempt = `${this.description} could not be listed`
    let token: string | undefined
    do {
      const { items, next } = await this.#calls.call(attempt, options?.signal, (request) =>
        this.#calls.list(this.#prefix + prefix, token, LIST_PAGE, request),
      )
      for (const { name: full, size } of items) {
        throwIfInterrupted(options?.signal)
        const name = full.slice(this.#prefix.length)
        if (isObjectName(name)) yield { name, size }
      }
      token = next
    } while (token !== undefined)
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    checkObjectName(name)
    await this.#reading(name, options, (request) =>
      this.#unlessLocked(name, request, () => this.#calls.delete(this.#prefix + name, request)),
    )
  }

  async close(): Promise<void> {
    this.#calls.close()
  }

  #upload(name: string, bytes: Bytes, options: WriteOptions | undefined, ifAbsent: boolean): Promise<boolean> {
    checkObjectName(name)
    const attempt = `Object ${name} could not be written to ${this.description}`
    const isLocked = options?.keep === true && this.#periodMs !== null
    const retainUntilMs = isLocked ? lockUntil(this.#ambient.now(), this.#periodMs!) : null
    return this.#calls.call(attempt, options?.signal, async (request) => {
      try {
        await this.#unlessLocked(name, request, () =>
          this.#calls.upload(this.#prefix + name, bytes, { ifAbsent, retainUntilMs }, request),
        )
        return true
      } catch (error) {
        if (ifAbsent && isRefusal(error, 412)) return false
        throw error
      }
    })
  }

  /** Null if there is no such object. The service answers the same if the bucket is gone, which is another matter. */
  #reading<T>(
    name: string,
    options: CallOptions | undefined,
    work: (request: Request) => Promise<T>,
  ): Promise<T | null> {
    const attempt = `Object ${name} could not be reached in ${this.description}`
    return this.#calls.call(attempt, options?.signal, async (request) => {
      try {
        return await work(request)
      } catch (error) {
        if (!isRefusal(error, 404)) throw error
      }
      await this.#calls.list(this.#prefix, undefined, 1, request)
      return null
    })
  }

  /** A refusal is explained by the lock of the object, if it has one. */
  async #unlessLocked<T>(name: string, request: Request, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!isRefusal(error, 403)) throw error
      const found = await this.#calls.metadata(this.#prefix + name, request).catch(() => null)
      if (found?.retainUntilMs == null || found.retainUntilMs <= this.#ambient.now()) throw error
      const until = new Date(found.retainUntilMs).toISOString()
      throw new RegainError(
        'storage-locked',
        `Object ${name} in ${this.description} is locked until ${until}: until then nobody can replace or remove it. It is as it was.`,
      )
    }
  }

  #immutability(periodMs: number): Immutability {
    return {
      periodMs,
      extend: async (name, options) => {
        checkObjectName(name)
        const untilMs = lockUntil(this.#ambient.now(), periodMs)
        const done = await this.#reading(name, options, async (request) => {
          await this.#calls.retain(this.#prefix + name, untilMs, request)
          return true
        })
        if (done === null) throw this.#noObject(name)
      },
      isExtended: async (name, options) =>
        isCurrentLock(await this.#lockedUntil(name, options), this.#ambient.now(), periodMs),
      lockedUntil: async (name, options) => {
        const untilMs = await this.#lockedUntil(name, options)
        return untilMs > this.#ambient.now() ? untilMs : 0
      },
    }
  }

  /** 0 if there is no lock, or no object. */
  async #lockedUntil(name: string, options: CallOptions | undefined): Promise<number> {
    checkObjectName(name)
    const found = await this.#reading(name, options, (request) => this.#calls.metadata(this.#prefix + name, request))
    return found?.retainUntilMs ?? 0
  }

  #noObject(name: string): RegainError {
    return new RegainError('storage-not-found', `There is no object ${name} in ${this.description}.`)
  }
}

function isRefusal(error: unknown, status: number): boolean {
  return error instanceof GcsRefusal && error.status === status
}
