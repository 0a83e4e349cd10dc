import { type BigIntStats, fstatSync } from 'node:fs'
import { constants } from 'node:os'
import {
  AT_FDCWD,
  close,
  errorCode,
  type Name,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  openAt,
  SystemError,
} from './libc.ts'
import { reach } from './reach.ts'

export interface OpenedFile {
  /** Close it with `close` of libc.ts. */
  fd: number
  /** As it stood when opened, nanoseconds and 64-bit numbers intact. */
  stat: BigIntStats
}

/**
 * Opens a regular file to be read, however deep it lies. Does not follow a symbolic link at the end, does not hang on a
 * FIFO that took its place (ESTALE: no regular file any more), and leaves the access time alone where it may.
 * ENOENT: vanished. EACCES: unreadable. ELOOP: a symbolic link took its place.
 */
export function openForReading(path: Name): OpenedFile {
  const fd = reach(path, openQuietly)
  try {
    const stat = fstatSync(fd, { bigint: true })
    if (!stat.isFile()) throw new SystemError(constants.errno.ESTALE, 'open', '')
    return { fd, stat }
  } catch (error) {
    close(fd)
    throw error
  }
}

function openQuietly(path: Name): number {
  const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
  try {
    return openAt(AT_FDCWD, path, flags | O_NOATIME)
  } catch (error) {
    // Only the owner and root may ask for no access time.
    if (errorCode(error) !== 'EPERM') throw error
    return openAt(AT_FDCWD, path, flags)
  }
}
