import { type ErrorCode, RegainError } from '../errors.ts'
import { markNotApplied, outcomeOf } from './not-applied.ts'

/** The SDK's errors as far as they are looked at. */
interface AzureError extends Error {
  /** Of the service: 'BlobNotFound'. Of Node: 'ECONNREFUSED'. */
  code?: string
  statusCode?: number
  details?: { errorCode?: string }
}

const CODES: Record<string, ErrorCode> = {
  ContainerNotFound: 'storage-unavailable',
  ContainerBeingDeleted: 'storage-unavailable',
  BlobImmutableDueToPolicy: 'storage-locked',
  // 409, and no matter of time: what is archived must be thawed for hours before it can be read.
  BlobArchived: 'storage-unsuitable',
  AccountIsDisabled: 'storage-denied',
}

const HINTS: Record<string, string> = {
  ContainerNotFound: 'The container is gone, or its name is misspelt. Regain never makes or removes a container.',
  AuthenticationFailed:
    'The store does not accept the credentials: check account, accountKey, sas or connectionString, and this machine’s clock.',
  AuthorizationFailure:
    'The credentials are wrong, or the firewall of the storage account or the signature’s address range keeps this machine out.',
  AuthorizationPermissionMismatch: 'The signature must allow reading, writing, creating, deleting and listing.',
  BlobArchived: 'Bring the blob back to the hot, cool or cold tier, and take archiving rules off this container.',
}

/** Answers and failures after which it is certain that a write was not carried out. */
const NOT_APPLIED = ['ServerBusy', 'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']

/**
 * What the SDK rejected with, as the contract's errors. `attempt` begins a sentence: 'Object x could not be read from
 * azure backups'. What the server says in its message is left out, and so is the request: they repeat signatures.
 */
export function azureError(error: unknown, attempt: string): unknown {
  if (error instanceof RegainError || !(error instanceof Error)) return error
  const name = azureErrorCode(error)
  const status = azureStatus(error)
  // Not the service's answer and not the network's: a mistake in the code.
  if (name === undefined && status === undefined) return error
  const said = [name, status === undefined ? undefined : `status ${status}`].filter(Boolean).join(', ')
  const told = new RegainError(codeOf(name, status), `${attempt} (${said}). ${outcomeOf(attempt)}`, {
    cause: new Error(said),
    ...(name !== undefined && HINTS[name] !== undefined ? { hint: HINTS[name] } : {}),
  })
  return NOT_APPLIED.includes(name ?? '') || status === 429 ? markNotApplied(told) : told
}

export function azureErrorCode(error: unknown): string | undefined {
  const { code, details } = error as AzureError
  return details?.errorCode ?? code
}

export function azureStatus(error: unknown): number | undefined {
  return (error as AzureError).statusCode
}

function codeOf(name: string | undefined, status: number | undefined): ErrorCode {
  const known = CODES[name ?? '']
  if (known !== undefined) return known
  if (status === undefined || status === 408 || status === 409 || status === 429) return 'storage-unavailable'
  if (status === 507) return 'storage-full'
  if (status === 401 || status === 403) return 'storage-denied'
  return status >= 500 || status < 400 ? 'storage-unavailable' : 'storage-unsuitable'
}
