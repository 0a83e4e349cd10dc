import type { EntryPath } from '../model.ts'
import { close, errorCode, O_DIRECTORY, O_NOFOLLOW, O_PATH, openAt, openBeneath } from './libc.ts'

/** Bytes of path per call, well under PATH_MAX; a UTF-16 unit takes at most three bytes. */
const UNITS_PER_CALL = 1300

/**
 * Handles of directories beneath one root, found without ever following a symbolic link and kept for a while: a
 * depth-first restore asks for the same parent again and again. The handle stays with the directory whatever happens to
 * its name, so what is created through it cannot be redirected by swapping a parent for a link.
 */
export class DirectoryHandles {
  readonly #root: number
  readonly #places: ReadonlyMap<EntryPath, number>
  readonly #limit: number
  // Least recently used first (a Map keeps the order of insertion).
  readonly #open = new Map<EntryPath, number>()
  #lastPath: EntryPath = ''
  #lastFd: number
  // Unset by the first ENOSYS or EPERM: before Linux 5.6, or a seccomp filter that does not know the call.
  #haveOpenat2: boolean

  /**
   * Takes over `root`, an O_PATH handle, and those of `places`: directories that lie elsewhere and stand, with all below
   * them, for the paths given, whatever may be there beneath the root.
   */
  constructor(
    root: number,
    options: { limit?: number; openat2?: boolean; places?: ReadonlyMap<EntryPath, number> } = {},
  ) {
    this.#root = root
    this.#places = options.places ?? new Map()
    this.#lastFd = root
    this.#limit = options.limit ?? 64
    this.#haveOpenat2 = options.openat2 ?? true
  }

  /**
   * An O_PATH handle of a directory, valid until the next call of `get` or `close`. Throws with code ENOENT, or ENOTDIR
   * or ELOOP if a part of the path is a symbolic link or no directory.
   */
  get(path: EntryPath): number {
    if (path === this.#lastPath) return this.#lastFd
    const fd = path === '' ? this.#root : (this.#places.get(path) ?? this.#lookUp(path))
    this.#lastPath = path
    this.#lastFd = fd
    return fd
  }

  /** Forgets a directory and all below it. */
  forget(path: EntryPath): void {
    for (const [known, fd] of this.#open) {
      if (known !== path && !known.startsWith(`${path}/`)) continue
      this.#open.delete(known)
      close(fd)
    }
    this.#lastPath = ''
    this.#lastFd = this.#root
  }

  close(): void {
    for (const fd of this.#open.values()) close(fd)
    this.#open.clear()
    for (const fd of this.#places.values()) close(fd)
    close(this.#root)
  }

  #lookUp(path: EntryPath): number {
    const known = this.#open.get(path)
    if (known !== undefined) {
      this.#open.delete(path)
      this.#open.set(path, known)
      return known
    }
    const fd = this.#openFromNearest(path)
    this.#open.set(path, fd)
    if (this.#open.size > this.#limit) this.#closeOldest()
    return fd
  }

  #openFromNearest(path: EntryPath): number {
    let slash = path.lastIndexOf('/')
    while (slash !== -1) {
      const ancestor = this.#places.get(path.slice(0, slash)) ?? this.#open.get(path.slice(0, slash))
      if (ancestor !== undefined) return this.#descend(ancestor, path.slice(slash + 1))
      slash = path.lastIndexOf('/', slash - 1)
    }
    return this.#descend(this.#root, path)
  }

  /** Opens `rest` beneath `from`, in pieces that one call takes. */
  #descend(from: number, rest: EntryPath): number {
    let directory = from
    let left = rest
    try {
      while (left.length > UNITS_PER_CALL) {
        const slash = left.lastIndexOf('/', UNITS_PER_CALL)
        // One name longer than that: the system says ENAMETOOLONG.
        if (slash <= 0) break
        const next = this.#openStep(directory, left.slice(0, slash))
        if (directory !== from) close(directory)
        directory = next
        left = left.slice(slash + 1)
      }
      return this.#openStep(directory, left)
    } finally {
      if (directory !== from) close(directory)
    }
  }

  #openStep(directory: number, path: EntryPath): number {
    if (!this.#haveOpenat2) return openByComponents(directory, path)
    try {
      return openBeneath(directory, path, O_PATH | O_DIRECTORY | O_NOFOLLOW)
    } catch (error) {
      const code = errorCode(error)
      if (code === 'ENOSYS' || code === 'EPERM') this.#haveOpenat2 = false
      // EAGAIN: a rename went on at the same time and the kernel cannot vouch for the whole path at once.
      else if (code !== 'EAGAIN') throw error
      return openByComponents(directory, path)
    }
  }

  #closeOldest(): void {
    for (const [path, fd] of this.#open) {
      this.#open.delete(path)
      close(fd)
      return
    }
  }
}

/** The same guarantee without openat2: O_NOFOLLOW with O_DIRECTORY refuses a link at each single step. */
function openByComponents(from: number, path: EntryPath): number {
  let directory = from
  for (const name of path.split('/')) {
    try {
      const next = openAt(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW)
      if (directory !== from) close(directory)
      directory = next
    } catch (error) {
      if (directory !== from) close(directory)
      throw error
    }
  }
  return directory
}
