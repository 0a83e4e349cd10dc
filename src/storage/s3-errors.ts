import { type ErrorCode, RegainError } from '../errors.ts'
import { markNotApplied } from './not-applied.ts'

/** The SDK's errors as far as they are looked at. */
interface SdkError extends Error {
  /** Of Node: 'ECONNREFUSED'. Of S3, in some errors: the same as `name`. */
  code?: string
  Code?: string
  /** Of Node: what failed. */
  syscall?: string
  /** Of Node: one for each address that was tried. */
  errors?: SdkError[]
  $metadata?: { httpStatusCode?: number }
}

const CODES: Record<string, ErrorCode> = {
  NoSuchBucket: 'storage-unavailable',
  NoSuchKey: 'storage-not-found',
  NoSuchVersion: 'storage-not-found',
  QuotaExceeded: 'storage-full',
  EntityTooLarge: 'storage-full',
  XMinioStorageFull: 'storage-full',
  NotImplemented: 'storage-unsuitable',
  CredentialsProviderError: 'storage-denied',
  // 400, and not a matter of the request: the credentials have ended, or the clock is wrong.
  ExpiredToken: 'storage-denied',
  InvalidToken: 'storage-denied',
  TokenRefreshRequired: 'storage-denied',
  RequestTimeTooSkewed: 'storage-denied',
  // 400: the body did not arrive in time.
  RequestTimeout: 'storage-unavailable',
  // 400: what arrived is not what was sent. Nothing was stored.
  BadDigest: 'storage-unavailable',
  XAmzContentSHA256Mismatch: 'storage-unavailable',
  IncompleteBody: 'storage-unavailable',
}

const UNKNOWN_AUTHORITY =
  "The store's certificate is of an authority that this machine does not know: name its certificate file with ca."

const HINTS: Record<string, string> = {
  ECONNREFUSED: 'Nothing answers at that address and port: check endpoint, and whether the store runs.',
  ENOTFOUND: 'There is no such host: check endpoint.',
  TimeoutError:
    'The store, or something on the way to it, takes the connection and says nothing: check endpoint and network.',
  CERT_HAS_EXPIRED: "The store's certificate has ended: its operator must renew it. (Is this machine's clock right?)",
  ERR_TLS_CERT_ALTNAME_INVALID: "The store's certificate is for another name than that of endpoint.",
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  NoSuchBucket: 'The bucket is gone, or its name is misspelt. Regain never makes or removes a bucket.',
  CredentialsProviderError:
    'Give accessKeyId and secretAccessKey in the configuration (as ${NAME} or file:PATH), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
  ExpiredToken: 'The credentials have ended: get new ones.',
  RequestTimeTooSkewed: "Set this machine's clock: it differs from the store's by more than the store allows.",
  InvalidAccessKeyId: 'The store does not know this access key: check accessKeyId.',
  SignatureDoesNotMatch: 'The secret does not belong to the access key: check secretAccessKey.',
}

/**
 * Answers after which it is certain that a write was not carried out. A status of 503 alone is none: some proxies give it
 * when the store broke off after it had the whole request.
 */
const NOT_APPLIED = new Set([
  ...['SlowDown', 'ServiceUnavailable', 'TooManyRequests', 'ThrottlingException', 'RequestLimitExceeded'],
  ...['ConditionalRequestConflict', 'OperationAborted', 'BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody'],
])

/**
 * What the SDK rejected with, as the contract's errors. `attempt` begins a sentence: 'Object x could not be read from
 * s3 bucket'. What the server says in its message is left out: some repeat the access key or the signature.
 */
export function s3Error(
  error: unknown,
  attempt: string,
  signal?: AbortSignal,
  consequence = 'Nothing was changed.',
): RegainError {
  if (error instanceof RegainError) return error
  if (signal?.aborted) return new RegainError('interrupted', 'The operation was interrupted.', { cause: signal.reason })
  if (!(error instanceof Error)) return new RegainError('internal', `${attempt}: ${String(error)}.`)
  const name = s3ErrorName(error)
  const status = statusOf(error)
  const told = new RegainError(codeOf(name, status), `${attempt} (${describe(name, status)}). ${consequence}`, {
    cause: new Error(`${name}${status === undefined ? '' : ` ${status}`}`),
    ...(HINTS[name] === undefined ? {} : { hint: HINTS[name] }),
  })
  return NOT_APPLIED.has(name) || status === 429 || neverConnected(error) ? markNotApplied(told) : told
}

/** The same errors can also come later, of a connection that has carried a request. */
function neverConnected(error: SdkError): boolean {
  const syscall = error.syscall ?? error.errors?.[0]?.syscall
  return syscall === 'connect' || syscall === 'getaddrinfo'
}

/** 'NoSuchKey', 'ECONNREFUSED'. */
export function s3ErrorName(error: unknown): string {
  const { name, code, Code } = error as SdkError
  if (typeof code === 'string' && /^[A-Z]+[A-Z0-9_]*$/.test(code)) return code
  return Code ?? name
}

export function statusOf(error: unknown): number | undefined {
  return (error as SdkError).$metadata?.httpStatusCode
}

function codeOf(name: string, status: number | undefined): ErrorCode {
  const known = CODES[name]
  if (known !== undefined) return known
  if (status === undefined || status === 429 || status === 408 || status === 409) return 'storage-unavailable'
  if (status === 507) return 'storage-full'
  if (status === 401 || status === 403) return 'storage-denied'
  if (status === 501 || status === 405) return 'storage-unsuitable'
  return status >= 500 || status < 400 ? 'storage-unavailable' : 'storage-unsuitable'
}

function describe(name: string, status: number | undefined): string {
  return status === undefined ? name : `${name}, status ${status}`
}
