import { readFileSync } from 'node:fs'
import { S3Client } from '@aws-sdk/client-s3'
import { RegainError } from '../errors.ts'

export interface S3Config {
  bucket: string
  /** Of all keys: 'regain/shop/'. Empty, or ends in a slash. */
  prefix: string
  region?: string
  endpoint?: string
  pathStyle?: boolean
  /** PEM file. */
  ca?: string
  storageClass?: string
  immutableMs?: number
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
}

/** Requests at a time; more wait in the agent. */
const CONNECTIONS = 64
const CONNECT_TIMEOUT_MS = 10_000
/** Without a byte in either direction. A server that takes an object may be silent while it makes it durable. */
const SILENCE_TIMEOUT_MS = 120_000

/**
 * The SDK retries nothing: a pack may be sent once only, and what may be sent again is for retry.ts to know. Checksums
 * beyond the signed SHA-256 of each body are off: several compatible stores refuse them.
 */
export function createS3Client(config: S3Config, onTime: (storeMs: number) => void): S3Client {
  const agent = { keepAlive: true, maxSockets: CONNECTIONS }
  const ca = config.ca === undefined ? {} : { ca: readAuthority(config.ca) }
  const region = config.region ?? (config.endpoint === undefined ? undefined : 'us-east-1')
  const client = new S3Client({
    ...(region === undefined ? {} : { region }),
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
    ...(config.credentials === null ? {} : { credentials: config.credentials }),
    forcePathStyle: config.pathStyle ?? config.endpoint !== undefined,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SILENCE_TIMEOUT_MS,
      httpAgent: agent,
      httpsAgent: { ...agent, ...ca },
    },
  })
  tellTime(client, onTime)
  return client
}

/** Of every answer, refusals too. */
function tellTime(client: S3Client, onTime: (storeMs: number) => void): void {
  const look = (response: unknown) => {
    const { headers } = (response ?? {}) as { headers?: Record<string, string> }
    const storeMs = Date.parse(headers?.date ?? '')
    if (Number.isFinite(storeMs)) onTime(storeMs)
  }
  client.middlewareStack.add(
    (next) => async (args) => {
      try {
        const result = await next(args)
        look(result.response)
        return result
      } catch (error) {
        look((error as { $response?: unknown }).$response)
        throw error
      }
    },
    // Outside of what makes an error of an answer.
    { step: 'deserialize', priority: 'high' },
  )
}

function readAuthority(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new RegainError(
      'config-invalid',
      `The certificate file ${path} cannot be read (${(error as Error).message}).`,
      {
        cause: error,
      },
    )
  }
}
