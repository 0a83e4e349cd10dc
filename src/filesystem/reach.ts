import { AT_FDCWD, close, type Name, O_DIRECTORY, O_PATH, openAt } from './libc.ts'
import { pathToBytes } from './names.ts'

/** PATH_MAX of Linux, its NUL included: one system call takes no longer path. Trees may still be deeper. */
const PATH_MAX = 4096
const SLASH = 0x2f

/**
 * Calls `use` with a path that node:fs and the system take: the same one if it is short and plain text, else its bytes,
 * and for a path beyond PATH_MAX one through /proc/self/fd that is good only during the call.
 */
export function reach<T>(path: Name, use: (path: string | Buffer) => T): T {
  if (typeof path === 'string' && path.length * 3 < PATH_MAX && path.isWellFormed()) return use(path)
  const bytes =
    typeof path === 'string' ? pathToBytes(path) : Buffer.from(path.buffer, path.byteOffset, path.byteLength)
  if (bytes.length < PATH_MAX) return use(bytes)
  return reachDeep(bytes, use)
}

function reachDeep<T>(path: Buffer, use: (path: Buffer) => T): T {
  let directory = AT_FDCWD
  let rest = path
  try {
    while (rest.length >= PATH_MAX) {
      const cut = rest.lastIndexOf(SLASH, PATH_MAX - 2)
      // No component is that long: let the system say ENAMETOOLONG.
      if (cut <= 0) break
      const next = openAt(directory, rest.subarray(0, cut), O_PATH | O_DIRECTORY)
      if (directory !== AT_FDCWD) close(directory)
      directory = next
      rest = rest.subarray(cut + 1)
    }
    if (directory === AT_FDCWD) return use(rest)
    // The rest must leave room for the prefix.
    const cut = rest.lastIndexOf(SLASH)
    if (cut > 0) {
      const next = openAt(directory, rest.subarray(0, cut), O_PATH | O_DIRECTORY)
      close(directory)
      directory = next
      rest = rest.subarray(cut + 1)
    }
    return use(Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), rest]))
  } finally {
    if (directory !== AT_FDCWD) close(directory)
  }
}
