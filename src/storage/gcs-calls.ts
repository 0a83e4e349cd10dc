import { type ErrorCode, RegainError } from '../errors.ts'
import type { Bytes } from './contract.ts'
import type { GoogleToken } from './gcs-auth.ts'
import { type HttpAnswer, type HttpCall, HttpClient } from './http.ts'
import { markNotApplied, outcomeOf } from './not-applied.ts'
import { blocksOf, lengthOf } from './pieces.ts'
import { type Request, withoutSilence } from './silence.ts'

export interface GcsPage {
  items: { name: string; size: number }[]
  next: string | undefined
}

/** What goes to the socket at a time. */
const BLOCK_BYTES = 256 * 1024

/** Failures after which it is certain that a write was not carried out. */
const NOT_APPLIED = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']

/** An answer of the service that is not a success. Its message is left out: it repeats names of accounts. */
export class GcsRefusal extends Error {
  readonly status: number
  /** 'conditionNotMet' */
  readonly reason: string | undefined

  constructor({ status, body }: HttpAnswer) {
    const reason = reasonOf(body)
    super(reason === undefined ? `status ${status}` : `${reason}, status ${status}`)
    this.status = status
    this.reason = reason
  }
}

/** Single requests to one bucket by Cloud Storage's JSON API, version 1. Nothing is repeated. */
export class GcsCalls {
  readonly #http = new HttpClient()
  readonly #token: GoogleToken
  readonly #endpoint: string
  readonly #bucket: string
  readonly #boundary: string

  /** `boundary` is random: it must not occur in what is written. */
  constructor(endpoint: string, bucket: string, token: GoogleToken, boundary: string) {
    this.#endpoint = endpoint.replace(/\/$/, '')
    this.#bucket = encodeURIComponent(bucket)
    this.#token = token
    this.#boundary = boundary
  }

  /** One request (multipart upload), which makes the object whole or not at all. */
  async upload(
    name: string,
    bytes: Bytes,
    { ifAbsent, retainUntilMs }: { ifAbsent: boolean; retainUntilMs: number | null },
    request: Request,
  ): Promise<void> {
    const metadata = retainUntilMs === null ? {} : { retention: retention(retainUntilMs) }
    const head = Buffer.from(
      `--${this.#boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n${JSON.stringify(metadata)}\r\n` +
        `--${this.#boundary}\r\nContent-Type: application/octet-stream\r\n\r\n`,
    )
    const tail = Buffer.from(`\r\n--${this.#boundary}--\r\n`)
    const blocks = function* () {
      yield head
      yield* blocksOf(bytes, BLOCK_BYTES)
      yield tail
    }
    const query = new URLSearchParams({ uploadType: 'multipart', name, fields: 'generation' })
    if (ifAbsent) query.set('ifGenerationMatch', '0')
    await this.#send(
      {
        method: 'POST',
        url: `${this.#endpoint}/upload/storage/v1/b/${this.#bucket}/o?${query}`,
        headers: { 'content-type': `multipart/related; boundary=${this.#boundary}` },
        body: { blocks: blocks(), length: head.length + lengthOf(bytes) + tail.length },
      },
      request,
    )
  }

  /** Bytes from `first` to `last`, both included, or all of them. */
  async download(name: string, range: { first: number; last: number } | null, request: Request): Promise<Buffer> {
    const headers: Record<string, string> = range === null ? {} : { range: `bytes=${range.first}-${range.last}` }
    return (await this.#send({ method: 'GET', url: this.#object(name, 'alt=media'), headers }, request)).body
  }

  async metadata(name: string, request: Request): Promise<{ size: number; retainUntilMs: number | null }> {
    const url = this.#object(name, 'fields=size,retention')
    const found = await this.#json<{ size?: string; retention?: { retainUntilTime?: string } }>('GET', url, request)
    const until = Date.parse(found.retention?.retainUntilTime ?? '')
    return { size: Number(found.size), retainUntilMs: Number.isNaN(until) ? null : until }
  }

  async retain(name: string, untilMs: number, request: Request): Promise<void> {
    const body = Buffer.from(JSON.stringify({ retention: retention(untilMs) }))
    await this.#send(
      {
        method: 'PATCH',
        url: this.#object(name, 'fields=retention'),
        headers: { 'content-type': 'application/json' },
        body: { blocks: [body], length: body.length },
      },
      request,
    )
  }

  async list(prefix: string, token: string | undefined, maxResults: number, request: Request): Promise<GcsPage> {
    const query = new URLSearchParams({ prefix, maxResults: `${maxResults}`, fields: 'items(name,size),nextPageToken' })
    if (token !== undefined) query.set('pageToken', token)
    const url = `${this.#endpoint}/storage/v1/b/${this.#bucket}/o?${query}`
    const page = await this.#json<{ items?: { name: string; size: string }[]; nextPageToken?: string }>(
      'GET',
      url,
      request,
    )
    return {
      items: (page.items ?? []).map(({ name, size }) => ({ name, size: Number(size) })),
      next: page.nextPageToken,
    }
  }

  async delete(name: string, request: Request): Promise<void> {
    await this.#send({ method: 'DELETE', url: this.#object(name, ''), headers: {} }, request)
  }

  async bucket(request: Request): Promise<{ hasRetention: boolean; hasVersions: boolean }> {
    const url = `${this.#endpoint}/storage/v1/b/${this.#bucket}?fields=objectRetention,versioning`
    const found = await this.#json<{ objectRetention?: { mode?: string }; versioning?: { enabled?: boolean } }>(
      'GET',
      url,
      request,
    )
    return { hasRetention: found.objectRetention?.mode === 'Enabled', hasVersions: found.versioning?.enabled === true }
  }

  /** `attempt` begins a sentence: 'Object x could not be read from gcs bucket'. */
  call<T>(attempt: string, signal: AbortSignal | undefined, work: (request: Request) => Promise<T>): Promise<T> {
    return withoutSilence(signal, work, (error) => gcsError(error, attempt))
  }

  close(): void {
    this.#http.close()
  }

  async #json<T>(method: string, url: string, request: Request): Promise<T> {
    const { body } = await this.#send({ method, url, headers: {} }, request)
    try {
      return JSON.parse(body.toString()) as T
    } catch {
      throw new RegainError(
        'storage-unavailable',
        'What answered in the place of Cloud Storage does not speak its language.',
      )
    }
  }

  async #send(call: HttpCall, request: Request): Promise<HttpAnswer> {
    const token = await until(request.signal, this.#token())
    const headers = { ...call.headers, authorization: `Bearer ${token}` }
    const answer = await this.#http.send({ ...call, headers }, request)
    if (answer.status >= 200 && answer.status < 300) return answer
    throw new GcsRefusal(answer)
  }

  #object(name: string, query: string): string {
    return `${this.#endpoint}/storage/v1/b/${this.#bucket}/o/${encodeURIComponent(name)}?${query}`
  }
}

function retention(untilMs: number) {
  return { mode: 'Locked', retainUntilTime: new Date(untilMs).toISOString() }
}

function reasonOf(body: Buffer): string | undefined {
  try {
    const { error } = JSON.parse(body.toString()) as { error?: { errors?: { reason?: unknown }[] } }
    const reason = error?.errors?.[0]?.reason
    return typeof reason === 'string' && /^[A-Za-z]{1,60}$/.test(reason) ? reason : undefined
  } catch {
    // Downloads and proxies answer with text; the status says enough.
    return undefined
  }
}

function gcsError(error: unknown, attempt: string): unknown {
  if (error instanceof RegainError || !(error instanceof Error)) return error
  const isRefusal = error instanceof GcsRefusal
  const code = (error as NodeJS.ErrnoException).code
  // Not the service's answer and not the network's: a mistake in the code.
  if (!isRefusal && code === undefined) return error
  const said = isRefusal ? error.message : code
  const told = new RegainError(
    isRefusal ? codeOf(error.status) : 'storage-unavailable',
    `${attempt} (${said}). ${outcomeOf(attempt)}`,
    { cause: new Error(said) },
  )
  const isCertain = isRefusal ? error.status === 429 : NOT_APPLIED.includes(code ?? '')
  return isCertain ? markNotApplied(told) : told
}

function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403) return 'storage-denied'
  if (status === 404 || status === 408 || status === 409 || status === 429) return 'storage-unavailable'
  return status >= 500 || status < 400 ? 'storage-unavailable' : 'storage-unsuitable'
}

/** For what takes no signal: it goes on by itself, and its outcome is not needed any more. */
function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
    const done = () => signal.removeEventListener('abort', stop)
    work.then(resolve, reject)
    work.then(done, done)
  })
}
