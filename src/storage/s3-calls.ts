import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import {
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Bytes } from './contract.ts'
import { wholeOf } from './pieces.ts'
import { createS3Client, type S3Config } from './s3-client.ts'
import { s3Error, s3ErrorName, statusOf } from './s3-errors.ts'
import {
  everyVersion,
  type Marker,
  type NamedVersion,
  type Version,
  type VersionPage,
  type VersionPages,
  versionsOf,
} from './s3-version-pages.ts'

/** Smaller objects cost more in the classes that are cheaper, which bill at least so many bytes. */
const STORAGE_CLASS_FROM_BYTES = 128 * 1024
/** The most that S3 gives in one answer; a store may give fewer. */
const LISTED_AT_ONCE = 1000

export interface WriteCall {
  /** If-None-Match: only if the name is free, where the store honours that. */
  ifAbsent?: boolean
  lockUntilMs?: number
  signal?: AbortSignal
}

interface Call {
  signal?: AbortSignal
}

/** Single requests to one place of a bucket, in terms of the contract's names and errors. Nothing is repeated here. */
export class S3Calls {
  readonly description: string
  /** By the store's last answer. */
  lastTimeMs: number | null = null
  readonly #client: S3Client
  readonly #config: S3Config

  constructor(config: S3Config) {
    this.#config = config
    this.#client = createS3Client(config, (storeMs) => {
      this.lastTimeMs = storeMs
    })
    const at = config.endpoint === undefined ? '' : ` at ${config.endpoint}`
    this.description = `s3 ${config.bucket}/${config.prefix.replace(/\/$/, '')}${at}`
  }

  /** The store's clock as far as answers have told it, else this machine's. */
  serverTime(nowMs: number): number {
    return nowMs + this.#client.config.systemClockOffset
  }

  /** 'off' also where the store does not know versions. Rejects with `storage-not-found` if there is no such bucket. */
  async versioning(call: Call): Promise<'enabled' | 'off'> {
    try {
      const answer = await this.#client.send(new GetBucketVersioningCommand(this.#bucket()), abort(call))
      return answer.Status === 'Enabled' ? 'enabled' : 'off'
    } catch (error) {
      const name = s3ErrorName(error)
      if (name === 'NoSuchBucket') {
        throw new RegainError('storage-not-found', `There is no bucket ${this.#config.bucket} (${this.description}).`, {
          hint: 'Check the name and the endpoint. Make the bucket with the tools of your store; Regain never makes one.',
        })
      }
      if (name === 'NotImplemented' || statusOf(error) === 501) return 'off'
      throw s3Error(error, `The bucket of ${this.description} could not be opened`, call.signal)
    }
  }

  async locking(call: Call): Promise<{ isEnabled: boolean; hasDefault: boolean }> {
    try {
      const answer = await this.#client.send(new GetObjectLockConfigurationCommand(this.#bucket()), abort(call))
      const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {}
      return { isEnabled: ObjectLockEnabled === 'Enabled', hasDefault: Rule?.DefaultRetention !== undefined }
    } catch (error) {
      // AWS and radosgw say it with 404, others with 400 or by not knowing the request at all.
      if (/^(ObjectLockConfigurationNotFound|InvalidRequest|NotImplemented|MethodNotAllowed)/.test(s3ErrorName(error)))
        return { isEnabled: false, hasDefault: false }
      throw s3Error(error, `The bucket of ${this.description} could not be asked for its Object Lock`, call.signal)
    }
  }

  /** 'exists' only with `ifAbsent`. The id is null where the bucket keeps no versions. */
  async put(name: string, bytes: Bytes, call: WriteCall): Promise<{ versionId: string | null } | 'exists'> {
    const body = wholeOf(bytes)
    const { storageClass } = this.#config
    try {
      const answer = await this.#client.send(
        new PutObjectCommand({
          ...this.#object(name),
          Body: body,
          ContentLength: body.length,
          ...(call.ifAbsent ? { IfNoneMatch: '*' } : {}),
          ...(storageClass && body.length >= STORAGE_CLASS_FROM_BYTES
            ? { StorageClass: storageClass as 'STANDARD' }
            : {}),
          ...(call.lockUntilMs === undefined ? {} : lock(body, call.lockUntilMs)),
        }),
        abort(call),
      )
      return { versionId: answer.VersionId ?? null }
    } catch (error) {
      if (call.ifAbsent && statusOf(error) === 412) return 'exists'
      const consequence = 'The object is either whole or absent, never half-written.'
      throw s3Error(error, `Object ${name} could not be written to ${this.description}`, call.signal, consequence)
    }
  }

  /** Null if there is no such object, or no such version of it. */
  async get(
    name: string,
    range: { offset: number; length: number } | undefined,
    versionId: string | undefined,
    call: Call,
  ): Promise<Buffer | null> {
    const last = range && range.offset + range.length - 1
    try {
      const answer = await this.#client.send(
        new GetObjectCommand({
          ...this.#object(name),
          ...(versionId === undefined ? {} : { VersionId: versionId }),
          ...(range === undefined ? {} : { Range: `bytes=${range.offset}-${last}` }),
        }),
        abort(call),
      )
      const bytes = await readBody(answer.Body as Readable, answer.ContentLength)
      // A store that does not know ranges answers with the whole object.
      const isWhole = range !== undefined && answer.ContentRange === undefined
      return isWhole ? bytes.subarray(range.offset, range.offset + range.length) : bytes
    } catch (error) {
      throwIfInterrupted(call.signal)
      if (isGone(error)) return null
      if (range !== undefined && statusOf(error) === 416) return Buffer.alloc(0)
      throw s3Error(error, `Object ${name} could not be read from ${this.description}`, call.signal)
    }
  }

  async *list(prefix: string, call: Call): AsyncGenerator<{ name: string; sizeBytes: number }> {
    let token: string | undefined
    do {
      throwIfInterrupted(call.signal)
      const page = await this.#listing(prefix, call, () =>
        this.#client.send(
          new ListObjectsV2Command({
            ...this.#bucket(),
            Prefix: this.#config.prefix + prefix,
            MaxKeys: LISTED_AT_ONCE,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          abort(call),
        ),
      )
      for (const { Key, Size } of page.Contents ?? []) yield { name: this.#name(Key), sizeBytes: Size ?? 0 }
      token = page.IsTruncated ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  }

  /** Every version under the prefix; those of one name together, the newest first. Delete markers are left out. */
  listVersions(prefix: string, call: Call): AsyncGenerator<NamedVersion> {
    return everyVersion(this.#pages(call), prefix)
  }

  /** Of one name, the newest first. */
  versions(name: string, call: Call): Promise<Version[]> {
    return versionsOf(this.#pages(call), name)
  }

  #pages(call: Call): VersionPages {
    return {
      description: this.description,
      page: (prefix, from) => this.#versionPage(prefix, from, call),
    }
  }

  async #versionPage(prefix: string, from: Marker | null, call: Call): Promise<VersionPage> {
    throwIfInterrupted(call.signal)
    const place = { ...this.#bucket(), Prefix: this.#config.prefix + prefix, MaxKeys: LISTED_AT_ONCE }
    const behind = from ? { KeyMarker: this.#config.prefix + from.name, VersionIdMarker: from.id } : {}
    const page = await this.#listing(prefix, call, () =>
      this.#client.send(new ListObjectVersionsCommand({ ...place, ...behind }), abort(call)),
    )
    const { Versions = [], IsTruncated, NextKeyMarker, NextVersionIdMarker } = page
    return {
      versions: Versions.map(({ Key, VersionId, Size }) => ({
        ...{ name: this.#name(Key), id: VersionId ?? 'null', sizeBytes: Size ?? 0 },
      })),
      next: IsTruncated ? { name: this.#name(NextKeyMarker), id: NextVersionIdMarker } : null,
    }
  }

  /** Of a bucket with versions: that version for good, if no lock is on it. */
  async delete(name: string, versionId: string | undefined, call: Call): Promise<void> {
    try {
      const version = versionId === undefined ? {} : { VersionId: versionId }
      await this.#client.send(new DeleteObjectCommand({ ...this.#object(name), ...version }), abort(call))
    } catch (error) {
      if (isGone(error)) return
      throw s3Error(error, `Object ${name} could not be removed from ${this.description}`, call.signal)
    }
  }

  /** Milliseconds since the epoch; 0 if no lock is on it, null if there is no such version. */
  async lockedUntil(name: string, versionId: string, call: Call): Promise<number | null> {
    try {
      const answer = await this.#client.send(
        new GetObjectRetentionCommand({ ...this.#object(name), VersionId: versionId }),
        abort(call),
      )
      return answer.Retention?.RetainUntilDate?.getTime() ?? 0
    } catch (error) {
      if (isGone(error)) return null
      if (/^(NoSuchObjectLockConfiguration|ObjectLockConfigurationNotFound|InvalidRequest)/.test(s3ErrorName(error)))
        return 0
      throw s3Error(error, `The lock of object ${name} in ${this.description} could not be read`, call.signal)
    }
  }

  /** False: there is no such version. */
  async lock(name: string, versionId: string, untilMs: number, call: Call): Promise<boolean> {
    try {
      const Retention = { Mode: 'COMPLIANCE', RetainUntilDate: new Date(untilMs) } as const
      await this.#client.send(
        new PutObjectRetentionCommand({ ...this.#object(name), VersionId: versionId, Retention }),
        abort(call),
      )
      return true
    } catch (error) {
      if (isGone(error)) return false
      throw s3Error(error, `Object ${name} in ${this.description} could not be locked`, call.signal)
    }
  }

  close(): void {
    this.#client.destroy()
  }

  #bucket() {
    return { Bucket: this.#config.bucket }
  }

  #object(name: string) {
    return { ...this.#bucket(), Key: this.#config.prefix + name }
  }

  #name(key: string | undefined): string {
    return (key ?? '').slice(this.#config.prefix.length)
  }

  async #listing<T>(prefix: string, call: Call, list: () => Promise<T>): Promise<T> {
    try {
      return await list()
    } catch (error) {
      throw s3Error(
        error,
        `${prefix === '' ? 'What is there' : prefix} could not be listed in ${this.description}`,
        call.signal,
      )
    }
  }
}

/** There is no such object, or no such version of it. */
function isGone(error: unknown): boolean {
  return ['NoSuchKey', 'NoSuchVersion'].includes(s3ErrorName(error))
}

function abort(call: Call): { abortSignal?: AbortSignal } {
  return call.signal === undefined ? {} : { abortSignal: call.signal }
}

/** COMPLIANCE: nobody can shorten or lift it, whatever rights they have. AWS wants a digest of what it is to lock. */
function lock(body: Uint8Array, untilMs: number) {
  return {
    ObjectLockMode: 'COMPLIANCE',
    ObjectLockRetainUntilDate: new Date(untilMs),
    ContentMD5: createHash('md5').update(body).digest('base64'),
  } as const
}

/** Rejects if the connection ended early: fewer bytes than were announced are not the object. */
async function readBody(body: Readable, length: number | undefined): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of body) {
    pieces.push(piece)
    size += piece.length
  }
  if (length !== undefined && size !== length) throw new Error(`${size} of ${length} bytes arrived`)
  const [only] = pieces
  return pieces.length === 1 && only!.byteLength === only!.buffer.byteLength ? only! : Buffer.concat(pieces, size)
}
