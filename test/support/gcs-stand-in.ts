import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * NOT Google Cloud Storage, and no emulator of it: a stand-in, written from the documentation of the JSON API, that
 * knows the requests which src/storage/gcs-calls.ts makes. It shows that the driver keeps the contract if the service
 * keeps its documentation; it cannot show that the service does.
 */
export interface GcsStandIn {
  readonly endpoint: string
  /** Of a workload identity that this server gives tokens to: what google-auth-library really does is done. */
  readonly credentials: string
  /** Makes a bucket. */
  bucket(name: string, settings?: { retention?: boolean; versioning?: boolean }): void
  removeBucket(name: string): void
  stop(): Promise<void>
}

interface StoredBlob {
  bytes: Buffer
  retention?: { mode: string; retainUntilTime: string }
}

interface Bucket {
  objects: Map<string, StoredBlob>
  settings: { retention?: boolean; versioning?: boolean }
}

const ACCESS_TOKEN = 'stand-in-access-token'
const SUBJECT_TOKEN = 'stand-in-subject-token'

export async function startGcsStandIn(): Promise<GcsStandIn> {
  const buckets = new Map<string, Bucket>()
  const server = createServer((request, response) => {
    readBody(request).then(
      (body) => answer(buckets, request, body, response),
      () => response.destroy(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const endpoint = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const folder = mkdtempSync(join(tmpdir(), 'regain-gcs-'))
  writeFileSync(join(folder, 'subject'), SUBJECT_TOKEN)
  const credentials = join(folder, 'credentials.json')
  writeFileSync(
    credentials,
    JSON.stringify({
      type: 'external_account',
      audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${endpoint}/token`,
      credential_source: { file: join(folder, 'subject') },
    }),
  )
  return {
    endpoint,
    credentials,
    bucket: (name, settings = {}) => void buckets.set(name, { objects: new Map(), settings }),
    removeBucket: (name) => void buckets.delete(name),
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
      rmSync(folder, { recursive: true })
    },
  }
}

function answer(
  buckets: Map<string, Bucket>,
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
): ServerResponse {
  const url = new URL(request.url!, 'http://stand-in')
  if (url.pathname === '/token') return giveToken(body, response)
  if (request.headers.authorization !== `Bearer ${ACCESS_TOKEN}`) return refuse(response, 401, 'authError')
  const path = /^\/(upload\/)?storage\/v1\/b\/([^/]+)(\/o(?:\/([^/]+))?)?$/.exec(url.pathname)
  if (path === null) return refuse(response, 400, 'invalid')
  const bucket = buckets.get(decodeURIComponent(path[2]!))
  if (bucket === undefined) return refuse(response, 404, 'notFound')
  if (path[1] !== undefined) return upload(bucket, url, request, body, response)
  if (path[3] === undefined) return describeBucket(bucket, response)
  if (path[4] === undefined) return list(bucket, url, response)
  const name = decodeURIComponent(path[4])
  const object = bucket.objects.get(name)
  if (object === undefined) return refuse(response, 404, 'notFound')
  if (request.method === 'DELETE') {
    if (isRetained(object)) return refuse(response, 403, 'retentionPolicyNotMet')
    bucket.objects.delete(name)
    return response.writeHead(204).end()
  }
  if (request.method === 'PATCH') {
    return retain(object, body, response)
  }
  if (url.searchParams.get('alt') === 'media') {
    return download(object.bytes, request.headers.range, response)
  }
  return json(response, { size: `${object.bytes.length}`, retention: object.retention })
}

/** RFC 8693, as Google's Security Token Service answers it. */
function giveToken(body: Buffer, response: ServerResponse): ServerResponse {
  if (new URLSearchParams(body.toString()).get('subject_token') !== SUBJECT_TOKEN) {
    return response.writeHead(400).end(JSON.stringify({ error: 'invalid_grant' }))
  }
  return json(response, {
    access_token: ACCESS_TOKEN,
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: 3600,
  })
}

function upload(
  bucket: Bucket,
  url: URL,
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
): ServerResponse {
  const name = url.searchParams.get('name')!
  const boundary = /boundary=(\w+)/.exec(request.headers['content-type'] ?? '')?.[1]
  const start = body.indexOf('\r\n\r\n')
  const middle = body.indexOf(`\r\n--${boundary}\r\n`)
  const data = body.indexOf('\r\n\r\n', middle + 4)
  const end = body.lastIndexOf(`\r\n--${boundary}--`)
  if (boundary === undefined || start < 0 || middle < 0 || data < 0 || end < data)
    return refuse(response, 400, 'invalid')
  const { retention } = JSON.parse(body.toString('utf8', start + 4, middle)) as Pick<StoredBlob, 'retention'>
  const existing = bucket.objects.get(name)
  if (url.searchParams.get('ifGenerationMatch') === '0' && existing) return refuse(response, 412, 'conditionNotMet')
  if (existing && isRetained(existing)) return refuse(response, 403, 'retentionPolicyNotMet')
  if (retention && !bucket.settings.retention) return refuse(response, 400, 'invalid')
  bucket.objects.set(name, { bytes: Buffer.from(body.subarray(data + 4, end)), ...(retention ? { retention } : {}) })
  return json(response, { generation: '1' })
}

function download(bytes: Buffer, range: string | undefined, response: ServerResponse): ServerResponse {
  if (range === undefined) return response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range)!
  if (Number(first) >= bytes.length) return response.writeHead(416).end('Requested range not satisfiable')
  const part = bytes.subarray(Number(first), Number(last) + 1)
  return response.writeHead(206, { 'content-length': part.length }).end(part)
}

/** In pages of at most 7, sorted, so that every listing of a test turns pages. */
function list(bucket: Bucket, url: URL, response: ServerResponse): ServerResponse {
  const prefix = url.searchParams.get('prefix') ?? ''
  const after = url.searchParams.get('pageToken') ?? ''
  const size = Math.min(7, Number(url.searchParams.get('maxResults')))
  const names = [...bucket.objects.keys()].filter((name) => name.startsWith(prefix) && name > after).sort()
  const items = names.slice(0, size).map((name) => ({ name, size: `${bucket.objects.get(name)!.bytes.length}` }))
  return json(response, {
    ...(items.length > 0 ? { items } : {}),
    ...(names.length > size ? { nextPageToken: items.at(-1)!.name } : {}),
  })
}

function describeBucket({ settings }: Bucket, response: ServerResponse): ServerResponse {
  return json(response, {
    ...(settings.retention ? { objectRetention: { mode: 'Enabled' } } : {}),
    ...(settings.versioning ? { versioning: { enabled: true } } : {}),
  })
}

function retain(object: StoredBlob, body: Buffer, response: ServerResponse): ServerResponse {
  const { retention } = JSON.parse(body.toString()) as Required<Pick<StoredBlob, 'retention'>>
  const current = object.retention?.retainUntilTime
  if (current !== undefined && retention.retainUntilTime < current) return refuse(response, 403, 'forbidden')
  object.retention = retention
  return json(response, { retention })
}

function isRetained({ retention }: StoredBlob): boolean {
  return retention !== undefined && Date.parse(retention.retainUntilTime) > Date.now()
}

function json(response: ServerResponse, value: unknown): ServerResponse {
  return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

function refuse(response: ServerResponse, status: number, reason: string): ServerResponse {
  response.writeHead(status, { 'content-type': 'application/json' })
  return response.end(JSON.stringify({ error: { code: status, message: 'refused', errors: [{ reason }] } }))
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks)
}
