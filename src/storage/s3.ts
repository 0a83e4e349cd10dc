import { isRegainError, RegainError, throwIfInterrupted } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { skewText } from './clock-skew.ts'
import type { Bytes, CallOptions, Storage, StoredObject } from './contract.ts'
import { refuseClearText } from './endpoint.ts'
import { checkObjectName, checkPrefix, isObjectName } from './names.ts'
import { checkRange } from './ranges.ts'
import { S3Calls } from './s3-calls.ts'
import type { S3Config } from './s3-client.ts'
import { VersionedS3Storage } from './s3-versioned.ts'

/** For the first answer. */
const ANSWER_MS = 30_000

/**
 * A place in a bucket of S3 or a compatible store. What the driver needs of it: reads and listings that show every
 * write that was answered (Amazon's since 2020), and of a bucket without versions `If-None-Match: *` on PutObject; with
 * versions see s3-versioned.ts. `checkStorage` (guarantees.ts) finds out whether a store keeps to that.
 *
 * Objects go up in one request each, which S3 allows up to 5 GiB: what is stored here is at most 1 GiB.
 *
 * Rejects with `storage-not-found` if there is no such bucket, and with `storage-unsuitable` if it cannot lock objects
 * as the configuration wants.
 */
export async function openS3Storage(
  config: S3Config,
  ambient: Pick<Ambient, 'now'>,
  { make = false, answerMs = ANSWER_MS, ...options }: CallOptions & { make?: boolean; answerMs?: number } = {},
): Promise<Storage> {
  if (config.endpoint !== undefined) refuseClearText(config.endpoint, `s3 ${config.bucket}`)
  const calls = new S3Calls(config)
  try {
    const versioning = await answered(calls, answerMs, options)
    if (config.immutableMs !== undefined) {
      if (versioning === 'off') throw noObjectLock(calls)
      // Only where a repository is to be made: no setting that somebody changes later may stop a restore.
      if (make) await checkLocking(calls, options)
    }
    if (versioning === 'enabled') return new VersionedS3Storage(calls, config.immutableMs ?? null, ambient)
    return new PlainS3Storage(calls)
  } catch (error) {
    calls.close()
    const apart = skewText(calls.lastTimeMs, ambient.now())
    // The store turns down what is signed by such a clock.
    if (apart === null || !isRegainError(error, 'storage-denied')) throw error
    const message = `${error.message} This machine's clock ${apart} the store's.`
    throw new RegainError(error.code, message, { cause: error, ...(error.hint ? { hint: error.hint } : {}) })
  }
}

/** Later a silent store is waited for: it may be at work. Who opens it, perhaps to restore, should hear soon that it is none. */
async function answered(calls: S3Calls, answerMs: number, { signal }: CallOptions): Promise<'enabled' | 'off'> {
  const silence = AbortSignal.timeout(answerMs)
  try {
    return await calls.versioning({ signal: signal === undefined ? silence : AbortSignal.any([signal, silence]) })
  } catch (error) {
    if (!silence.aborted || signal?.aborted || !isRegainError(error, 'interrupted')) throw error
    throw new RegainError(
      'storage-unavailable',
      `${calls.description} has not answered for ${answerMs / 1000} seconds. Nothing was changed.`,
      {
        hint: 'Something takes the connection and says nothing: check endpoint and network. Committed points are not affected.',
      },
    )
  }
}

async function checkLocking(calls: S3Calls, options: CallOptions): Promise<void> {
  const { isEnabled, hasDefault } = await calls.locking(options)
  if (!isEnabled) throw noObjectLock(calls)
  if (hasDefault) {
    throw new RegainError(
      'storage-unsuitable',
      `The bucket of ${calls.description} locks every object by default, also those that must be removed within minutes. Nothing was written.`,
      { hint: "Remove the bucket's default retention. Regain locks what must be kept, for the time of immutable." },
    )
  }
}

function noObjectLock({ description }: S3Calls): RegainError {
  return new RegainError(
    'storage-unsuitable',
    `The bucket of ${description} has no Object Lock, so nothing in it can be immutable. Nothing was written.`,
    { hint: 'Make a bucket with Object Lock (most stores want that when the bucket is made), or remove immutable.' },
  )
}

const NO_SUCH_OBJECT = 'storage-not-found'

class PlainS3Storage implements Storage {
  readonly description: string
  readonly lastTimeMs: () => number | null
  readonly #calls: S3Calls

  constructor(calls: S3Calls) {
    this.#calls = calls
    this.lastTimeMs = () => calls.lastTimeMs
    this.description = calls.description
  }

  async put(name: string, bytes: Bytes, options: CallOptions = {}): Promise<void> {
    begin(name, options)
    await this.#calls.put(name, bytes, options)
  }

  async create(name: string, bytes: Bytes, options: CallOptions = {}): Promise<boolean> {
    begin(name, options)
    return (await this.#calls.put(name, bytes, { ...options, ifAbsent: true })) !== 'exists'
  }

  async get(name: string, range?: { offset: number; length: number }, options: CallOptions = {}): Promise<Buffer> {
    checkRange(range)
    begin(name, options)
    // HTTP has no range of no bytes: the object must be there all the same.
    const isEmptyRange = range?.length === 0
    const asked = isEmptyRange ? { offset: 0, length: 1 } : range
    const bytes = await this.#calls.get(name, asked, undefined, options)
    if (bytes === null) throw new RegainError(NO_SUCH_OBJECT, `There is no object ${name} in ${this.description}.`)
    return isEmptyRange ? Buffer.alloc(0) : bytes
  }

  /** By a listing: the answer to HEAD does not tell a missing object from a missing bucket. */
  async size(name: string, options: CallOptions = {}): Promise<number | null> {
    begin(name, options)
    // Sorted, so if the object is there, it comes first.
    for await (const found of this.#calls.list(name, options)) return found.name === name ? found.sizeBytes : null
    return null
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    throwIfInterrupted(options.signal)
    for await (const { name, sizeBytes } of this.#calls.list(prefix, options))
      if (isObjectName(name)) yield { name, size: sizeBytes }
  }

  async delete(name: string, options: CallOptions = {}): Promise<void> {
    begin(name, options)
    await this.#calls.delete(name, undefined, options)
  }

  async close(): Promise<void> {
    this.#calls.close()
  }
}

function begin(name: string, options: CallOptions): void {
  checkObjectName(name)
  throwIfInterrupted(options.signal)
}
