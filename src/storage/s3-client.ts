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
export function createS3Client(config: S3Config): S3Client {
  const agent = { keepAlive: true, maxSockets: CONNECTIONS }
  const ca = config.ca === undefined ? {} : { ca: readAuthority(config.ca) }
  const region = config.region ?? (config.endpoint === undefined ? undefined : 'us-east-1')
  return new S3Client({
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
