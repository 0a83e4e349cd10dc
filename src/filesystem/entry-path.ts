import { RegainError } from '../errors.ts'
import type { EntryPath } from '../model.ts'
import { displayPath, isPathText, pathToBytes } from './names.ts'

/** NAME_MAX of Linux: bytes of one component. */
const NAME_MAX = 255
/** Deeper than any tree that a backup could have walked; keeps a hostile listing from costing memory. */
const PATH_BYTES_MAX = 1 << 20

/**
 * Refuses a path that no walk of a file system can have given: absolute, with empty, `.` or `..` components, with NUL,
 * over-long, or not text that stands for bytes. `''` is the root itself and is fine. Throws `repository-damaged`.
 */
export function validateEntryPath(path: EntryPath): void {
  const fault = faultOf(path)
  if (fault === null) return
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path
  throw new RegainError(
    'repository-damaged',
    `The listing holds a path that no backup makes (${fault}): ${displayPath(shown)}. It is damaged or hostile; nothing is written for it.`,
  )
}

function faultOf(path: EntryPath): string | null {
  if (typeof path !== 'string') return 'not text'
  if (path === '') return null
  if (path.length > PATH_BYTES_MAX) return 'too long'
  if (path.includes('\0')) return 'a NUL byte'
  if (!isPathText(path)) return 'not text that stands for bytes'
  let from = 0
  while (from <= path.length) {
    const slash = path.indexOf('/', from)
    const end = slash === -1 ? path.length : slash
    const fault = componentFault(path, from, end)
    if (fault !== null) return fault
    from = end + 1
  }
  return null
}

function componentFault(path: string, from: number, end: number): string | null {
  const length = end - from
  if (length === 0) return from === 0 ? 'absolute' : 'an empty component'
  if (length === 1 && path[from] === '.') return 'a "." component'
  if (length === 2 && path[from] === '.' && path[from + 1] === '.') return 'a ".." component'
  // A UTF-16 unit takes at most three bytes.
  if (length * 3 > NAME_MAX && pathToBytes(path.slice(from, end)).length > NAME_MAX)
    return 'a name longer than 255 bytes'
  return null
}
