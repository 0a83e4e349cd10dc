import { type ErrorCode, RegainError } from '../errors.ts'
import { errnoName } from '../filesystem/durable.ts'

const CODES: Record<string, ErrorCode> = {
  ENOSPC: 'storage-full',
  EDQUOT: 'storage-full',
  // The file system's, or the process's (ulimit -f), limit on the size of a file.
  EFBIG: 'storage-full',
  EACCES: 'storage-denied',
  EPERM: 'storage-denied',
  EROFS: 'storage-denied',
}

/**
 * What the system said, as the contract's errors. `attempt` is a sentence's beginning ('Object x could not be read
 * from local /srv'), `consequence` a sentence on what it means for the data. Errors that are not the system's pass
 * through unchanged.
 */
export function storageError(error: unknown, attempt: string, consequence: string): unknown {
  const errno = errnoName(error)
  if (error instanceof RegainError || !(error instanceof Error) || errno === undefined) return error
  const code = CODES[errno] ?? 'storage-unavailable'
  return new RegainError(code, `${attempt} (${error.message}). ${consequence}`, { cause: error })
}

/** What link says on a file system without hard links: not a matter of rights, so it must not read like one. */
export function linkError(error: unknown, description: string): unknown {
  const errno = errnoName(error)
  if (errno !== 'EPERM' && errno !== 'ENOTSUP' && errno !== 'EOPNOTSUPP' && errno !== 'ENOSYS') return error
  return new RegainError(
    'storage-unavailable',
    `The file system of ${description} refuses hard links (${errno}), without which an object cannot be made by ` +
      'exactly one of several writers. Nothing was written.',
    { cause: error, hint: 'Use a file system with hard links: ext4, XFS, Btrfs, ZFS or NFS.' },
  )
}

/** True if the error says that nothing of that name is there as a file of its own. */
export function saysAbsent(error: unknown): boolean {
  const errno = errnoName(error)
  // ENOTDIR: a part of the way is a file. ELOOP: a symbolic link, opened without following. EISDIR: a folder, unlinked.
  return errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP' || errno === 'EISDIR'
}
