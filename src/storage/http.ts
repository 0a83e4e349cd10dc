import * as http from 'node:http'
import * as https from 'node:https'
import { pipeline, Readable } from 'node:stream'
import { RegainError } from '../errors.ts'
import { collect, type Request } from './silence.ts'

export interface HttpCall {
  method: string
  url: string
  headers: Record<string, string>
  body?: { blocks: Iterable<Uint8Array>; length: number }
}

export interface HttpAnswer {
  status: number
  body: Buffer
}

/** Requests at a time; more wait in the agent. */
const CONNECTIONS = 64
/** Of sockets that nobody uses: longer than a silent server is waited for, shorter than servers keep them (4 minutes). */
const SOCKET_IDLE_MS = 150_000
/** Of an answer that does not announce its length: listings and errors. */
const MAX_UNANNOUNCED_BYTES = 16 * 1024 * 1024

/** Single requests over HTTP, bodies streamed. Nothing is repeated, no redirect is followed. Errors are Node's own. */
export class HttpClient {
  readonly #plain = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS, timeout: SOCKET_IDLE_MS })
  readonly #secure = new https.Agent({ keepAlive: true, maxSockets: CONNECTIONS, timeout: SOCKET_IDLE_MS })

  send({ method, url, headers, body }: HttpCall, { signal, touch }: Request): Promise<HttpAnswer> {
    const isSecure = url.startsWith('https:')
    return new Promise((resolve, reject) => {
      const request = (isSecure ? https : http).request(url, {
        method,
        headers: { ...headers, ...(body === undefined ? {} : { 'content-length': body.length }) },
        agent: isSecure ? this.#secure : this.#plain,
        signal,
      })
      // Stays: an error after the first one must not end the process.
      request.on('error', reject)
      request.once('response', (answer) => {
        readAnswer(answer, method, touch).then(
          (read) => resolve({ status: answer.statusCode ?? 0, body: read }),
          reject,
        )
      })
      if (body === undefined) request.end()
      else pipeline(Readable.from(touched(body.blocks, touch)), request, (error) => error && reject(error))
    })
  }

  close(): void {
    this.#plain.destroy()
    this.#secure.destroy()
  }
}

async function readAnswer(answer: http.IncomingMessage, method: string, touch: () => void): Promise<Buffer> {
  const announced = answer.headers['content-length']
  if (announced !== undefined && method !== 'HEAD') return collect(answer, Number(announced), touch)
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    touch()
    chunks.push(chunk)
    length += chunk.length
    if (length > MAX_UNANNOUNCED_BYTES) throw new RegainError('storage-unavailable', 'An answer does not end.')
  }
  return Buffer.concat(chunks)
}

function* touched(blocks: Iterable<Uint8Array>, touch: () => void): Generator<Uint8Array> {
  for (const block of blocks) {
    touch()
    yield block
  }
}
