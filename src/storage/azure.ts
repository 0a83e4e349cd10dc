import { Readable } from 'node:stream'
import {
  AnonymousCredential,
  type BlobDownloadResponseParsed,
  BlobServiceClient,
  type BlockBlobClient,
  type ContainerClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from '@azure/storage-blob'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import { azureError, azureErrorCode, azureStatus } from './azure-errors.ts'
import type { Bytes, CallOptions, Storage, StoredObject } from './contract.ts'
import { refuseClearText } from './endpoint.ts'
import { checkObjectName, checkPrefix, isObjectName } from './names.ts'
import { blocksOf, lengthOf } from './pieces.ts'
import { checkRange } from './ranges.ts'
import { collect, type Request, withoutSilence } from './silence.ts'

export interface AzurePlace {
  container: string
  /** Of all blobs: 'regain/shop/'. Empty, or ends in a slash. */
  prefix: string
  /** https, or http to this machine; of the account if absent. */
  endpoint?: string
  login: AzureLogin
}

export type AzureLogin =
  | { kind: 'connection-string'; connectionString: string }
  | { kind: 'account-key'; account: string; accountKey: string }
  /** A shared access signature, without '?'. The account is in the endpoint if that is given. */
  | { kind: 'sas'; account?: string; sas: string }

/** What goes to the socket at a time. */
const BLOCK_BYTES = 256 * 1024
/** The most that the service gives. */
const LIST_PAGE = 5000

/**
 * Objects as block blobs of one container. Each goes up in one Put Blob, which makes it whole or not at all; one with
 * `If-None-Match: *` is made by exactly one of several writers; reads and listings show every write that was answered
 * (Azure Storage is strongly consistent). The SDK retries nothing.
 *
 * Rejects with `storage-not-found` if there is no such container; none is ever made.
 */
export async function openAzureStorage(place: AzurePlace): Promise<Storage> {
  const description = `azure ${place.container}${place.prefix === '' ? '' : `/${place.prefix.replace(/\/$/, '')}`}`
  const container = connect(place, description)
  const storage = new AzureStorage(container, place.prefix, description)
  await storage.look()
  return storage
}

function connect(place: AzurePlace, description: string): ContainerClient {
  let service: BlobServiceClient
  try {
    service = serviceClient(place)
  } catch (error) {
    // The SDK's messages repeat what they could not read, and that is the secret.
    throw new RegainError('config-invalid', `The credentials of ${description} are not well formed.`, {
      hint: 'Check account, accountKey, sas, connectionString and endpoint in the configuration.',
      cause: new Error((error as Error).name),
    })
  }
  refuseClearText(service.url, description)
  return service.getContainerClient(place.container)
}

function serviceClient({ login, endpoint }: AzurePlace): BlobServiceClient {
  const options: StoragePipelineOptions = { retryOptions: { maxTries: 1 } }
  if (login.kind === 'connection-string') return BlobServiceClient.fromConnectionString(login.connectionString, options)
  const url = endpoint ?? `https://${login.account}.blob.core.windows.net`
  if (login.kind === 'account-key') {
    return new BlobServiceClient(url, new StorageSharedKeyCredential(login.account, login.accountKey), options)
  }
  return new BlobServiceClient(`${url}?${login.sas}`, new AnonymousCredential(), options)
}

class AzureStorage implements Storage {
  readonly description: string
  readonly #container: ContainerClient
  readonly #prefix: string
  #lastTimeMs: number | null = null
  readonly lastTimeMs = () => this.#lastTimeMs

  constructor(container: ContainerClient, prefix: string, description: string) {
    this.#container = container
    this.#prefix = prefix
    this.description = description
  }

  /** Whether the container is there and may be listed. */
  async look(): Promise<void> {
    await this.#call(`${this.description} could not be opened`, undefined, async ({ signal }) => {
      try {
        await this.#page('', undefined, 1, signal)
      } catch (error) {
        if (azureErrorCode(error) !== 'ContainerNotFound') throw error
        throw new RegainError('storage-not-found', `There is no container for ${this.description}.`, {
          hint: 'Make the container, or correct its name. Regain never makes one.',
        })
      }
    })
  }

  async put(name: string, bytes: Bytes, options?: CallOptions): Promise<void> {
    await this.#upload(name, bytes, options, {})
  }

  async create(name: string, bytes: Bytes, options?: CallOptions): Promise<boolean> {
    return this.#upload(name, bytes, options, { ifNoneMatch: '*' })
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    checkObjectName(name)
    checkRange(range)
    const bytes = await this.#reading(name, options, (blob, request) => download(blob, range, request))
    if (bytes === null) throw new RegainError('storage-not-found', `There is no object ${name} in ${this.description}.`)
    return bytes
  }

  async size(name: string, options?: CallOptions): Promise<number | null> {
    checkObjectName(name)
    return this.#reading(name, options, async (blob, { signal }) => {
      const { contentLength } = await blob.getProperties({ abortSignal: signal })
      return announced(contentLength)
    })
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    let token: string | undefined
    do {
      const attempt = `${this.description} could not be listed`
      const page = await this.#call(attempt, options, ({ signal }) => this.#page(prefix, token, LIST_PAGE, signal))
      for (const { name: blobName, properties } of page.segment.blobItems) {
        throwIfInterrupted(options?.signal)
        const name = blobName.slice(this.#prefix.length)
        if (isObjectName(name)) yield { name, size: announced(properties.contentLength) }
      }
      // An empty page can have others behind it; only an empty token is the end.
      token = page.continuationToken === '' ? undefined : page.continuationToken
    } while (token !== undefined)
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    checkObjectName(name)
    await this.#reading(name, options, (blob, { signal }) =>
      // A snapshot that somebody took would otherwise keep the blob.
      blob.delete({ abortSignal: signal, deleteSnapshots: 'include' }),
    )
  }

  async close(): Promise<void> {
    // The SDK's idle connections belong to the process and do not keep it alive.
  }

  async #upload(
    name: string,
    bytes: Bytes,
    options: CallOptions | undefined,
    conditions: { ifNoneMatch?: string },
  ): Promise<boolean> {
    checkObjectName(name)
    const attempt = `Object ${name} could not be written to ${this.description}`
    return this.#call(attempt, options, async ({ signal, touch }) => {
      try {
        await this.#blob(name).upload(() => Readable.from(blocksOf(bytes, BLOCK_BYTES)), lengthOf(bytes), {
          abortSignal: signal,
          conditions,
          onProgress: touch,
          blobHTTPHeaders: { blobContentType: 'application/octet-stream' },
        })
        return true
      } catch (error) {
        if (conditions.ifNoneMatch !== undefined && saysExists(error)) return false
        throw error
      }
    })
  }

  /** Null if there is no such object; a container that is gone is another matter. */
  #reading<T>(
    name: string,
    options: CallOptions | undefined,
    work: (blob: BlockBlobClient, request: Request) => Promise<T>,
  ): Promise<T | null> {
    return this.#call(`Object ${name} could not be reached in ${this.description}`, options, async (request) => {
      try {
        return await work(this.#blob(name), request)
      } catch (error) {
        if (azureStatus(error) === 404 && azureErrorCode(error) === 'BlobNotFound') return null
        throw error
      }
    })
  }

  #call<T>(attempt: string, options: CallOptions | undefined, work: (request: Request) => Promise<T>): Promise<T> {
    return withoutSilence(options?.signal, work, (error) => azureError(error, attempt))
  }

  async #page(prefix: string, token: string | undefined, size: number, signal: AbortSignal) {
    const pages = this.#container
      .listBlobsFlat({ prefix: this.#prefix + prefix, abortSignal: signal })
      .byPage({ maxPageSize: size, ...(token === undefined ? {} : { continuationToken: token }) })
    const { value } = await pages.next()
    this.#lastTimeMs = (value as { date?: Date } | undefined)?.date?.getTime() ?? this.#lastTimeMs
    return value as Awaited<ReturnType<typeof pages.next>>['value']
  }

  #blob(name: string): BlockBlobClient {
    return this.#container.getBlockBlobClient(this.#prefix + name)
  }
}

async function download(
  blob: BlockBlobClient,
  range: { offset: number; length: number } | undefined,
  { signal, touch }: Request,
): Promise<Buffer> {
  // HTTP has no range of no bytes: the object must be there all the same.
  const count = range === undefined ? undefined : Math.max(range.length, 1)
  try {
    const answer = await blob.download(range?.offset ?? 0, count, { abortSignal: signal, maxRetryRequests: 0 })
    const bytes = await readBody(answer, touch)
    return range?.length === 0 ? Buffer.alloc(0) : bytes
  } catch (error) {
    // The range begins at the end of the blob or behind it.
    if (range !== undefined && azureStatus(error) === 416) return Buffer.alloc(0)
    throw error
  }
}

/** The SDK has an error of its own, without a code, for an answer that ends early. */
async function readBody(answer: BlobDownloadResponseParsed, touch: () => void): Promise<Buffer> {
  const body = answer.readableStreamBody as AsyncIterable<Buffer>
  try {
    return await collect(body, announced(answer.contentLength), touch)
  } catch (error) {
    if (error instanceof RegainError) throw error
    throw Object.assign(new Error('the answer ended early', { cause: error }), { code: 'ECONNRESET' })
  }
}

function announced(length: number | undefined): number {
  if (length !== undefined) return length
  throw new RegainError('storage-unavailable', 'The answer did not say how long the object is.')
}

/** 409 where the blob is there, 412 from services that only look at the condition. One that is locked is there, too. */
function saysExists(error: unknown): boolean {
  const code = azureErrorCode(error)
  if (code === 'BlobAlreadyExists' || code === 'BlobImmutableDueToPolicy') return true
  return azureStatus(error) === 412 && code === 'ConditionNotMet'
}
