import { RegainError } from '../errors.ts'

/** Any error as one that a person can be told; what is not a RegainError is a bug, unless an interruption tore it down. */
export function asRegainError(error: unknown, signal: AbortSignal): RegainError {
  if (error instanceof RegainError) return error
  if (signal.aborted) return new RegainError('interrupted', 'The operation was interrupted.', { cause: error })
  const message = error instanceof Error ? error.message : String(error)
  return new RegainError('internal', `An unexpected error: ${message}`, { cause: error })
}

/** For settings and commands that the contract has and this version has not. */
export function notInThisVersion(what: string, instead: string): RegainError {
  return new RegainError('usage', `${what} is not available in this version. Nothing was done.`, { hint: instead })
}
