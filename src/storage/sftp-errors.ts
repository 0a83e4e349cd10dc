import { RegainError } from '../errors.ts'
import { ConnectionLost, SFTP_STATUS, statusOf } from './sftp-session.ts'

/**
 * What the server answered, as the contract's errors. `attempt` is a sentence's beginning ('Object x could not be read
 * from sftp host/path'), `consequence` a sentence on what it means for the data. Errors that are neither the server's
 * nor the connection's pass through unchanged.
 */
export function sftpError(error: unknown, attempt: string, consequence: string): unknown {
  if (error instanceof RegainError || !(error instanceof Error)) return error
  if (error instanceof ConnectionLost) {
    return new RegainError(
      'storage-unavailable',
      `${attempt}: the connection was lost (${error.message}). ${consequence}`,
      {
        cause: error,
      },
    )
  }
  const status = statusOf(error)
  if (status === undefined) return error
  const code = status === SFTP_STATUS.permissionDenied ? 'storage-denied' : 'storage-unavailable'
  return new RegainError(code, `${attempt}: the server answered "${error.message}". ${consequence}`, { cause: error })
}

/** True if the error says that nothing of that name is there. OpenSSH answers so where a part of the way is a file, too. */
export function saysAbsent(error: unknown): boolean {
  return statusOf(error) === SFTP_STATUS.noSuchFile
}

/** True for the answer that stands for every failure without a code of its own: exists, full, not empty, is a folder. */
export function saysFailure(error: unknown): boolean {
  return statusOf(error) === SFTP_STATUS.failure
}
