import { fstatSync, fsyncSync } from 'node:fs'
import { RegainError } from '../errors.ts'
import type { Entry, EntryPath, EntryType } from '../model.ts'
import { DirectoryHandles } from './directory-handles.ts'
import { validateEntryPath } from './entry-path.ts'
import {
  AT_FDCWD,
  chmodHandle,
  close,
  errorCode,
  linkAt,
  mkdirAt,
  mknodAt,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  openAt,
  symlinkAt,
  syncFilesystemOf,
  unlinkAt,
} from './libc.ts'
import { displayPath } from './names.ts'
import { type ApplyOptions, applyToHandle, applyToName } from './target-attributes.ts'

/** Where a restore writes. */
export interface TargetRoot {
  directory: string
  /** What lies elsewhere: the directory of the entry at `path`, and all below it. Nothing links there by itself. */
  places: readonly { path: EntryPath; directory: string }[]
}

/**
 * The tree that a restore writes. Whatever a listing says and whoever swaps a folder for a symbolic link meanwhile,
 * nothing is created or changed outside the directory: paths are checked, every parent is a handle that was reached
 * without following a link, and names are created with O_EXCL in it.
 *
 * Until its attributes are set, all belongs to this process's user alone (0700 and 0600). Synchronous; each worker
 * thread has a TargetTree of its own on the same directory. Every error is a RegainError, with the system's own as its
 * `cause`: `repository-damaged` for hostile paths, `target-not-empty` if something is in the way, `target-full`,
 * `not-permitted`, and `precondition-failed` for the rest (a name or a file too long for this file system: code
 * ENAMETOOLONG or EFBIG in the cause).
 */
export class TargetTree {
  readonly #handles: DirectoryHandles
  readonly #places: readonly EntryPath[]

  private constructor(handles: DirectoryHandles, places: readonly EntryPath[]) {
    this.#handles = handles
    this.#places = places
  }

  /**
   * The directories must exist; a symbolic link given for one is followed, since a person named it. Close the tree.
   */
  static open(root: TargetRoot, options: { handleLimit?: number; openat2?: boolean } = {}): TargetTree {
    return new TargetTree(
      openTarget(root, options),
      root.places.map(({ path }) => path),
    )
  }

  /** With mode 0700. That it exists is fine only for the root, `''`, and for places. */
  makeDirectory(path: EntryPath): void {
    if (path === '' || this.#places.includes(path)) return
    this.#at(path, (parent, name) => mkdirAt(parent, name, 0o700))
  }

  /** The same for a restore over what is there: a directory that exists is this user's alone from now on. */
  takeDirectory(path: EntryPath): void {
    try {
      this.makeDirectory(path)
    } catch (error) {
      if (causeCode(error) !== 'EEXIST') throw error
      this.#withDirectory(path, (fd) => chmodHandle(fd, 0o700))
    }
  }

  /** A new regular file, mode 0600, opened for writing. Close it with closeFile. */
  createFile(path: EntryPath): number {
    return this.#at(path, (parent, name) => openAt(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600))
  }

  /** A regular file that createFile made, to write another part of it. Close it with closeFile. */
  openFile(path: EntryPath): number {
    return this.#at(path, (parent, name) => openRegular(parent, name, O_WRONLY))
  }

  /** The one or the other. */
  openOrCreateFile(path: EntryPath): number {
    try {
      return this.openFile(path)
    } catch (error) {
      if (causeCode(error) !== 'ENOENT') throw error
      return this.createFile(path)
    }
  }

  /** A regular file that is there, to be read; null if there is none, or this user may not read it. Close it with closeFile. */
  openExisting(path: EntryPath): number | null {
    try {
      return this.#at(path, (parent, name) => openRegular(parent, name, O_RDONLY))
    } catch (error) {
      if (['ENOENT', 'EACCES'].includes(causeCode(error))) return null
      throw error
    }
  }

  closeFile(fd: number): void {
    close(fd)
  }

  /** Removes a regular file that createFile made; absent is fine. */
  removeFile(path: EntryPath): void {
    try {
      this.#at(path, (parent, name) => unlinkAt(parent, name, { directory: false }))
    } catch (error) {
      if (causeCode(error) !== 'ENOENT') throw error
    }
  }

  /**
   * A symbolic link, FIFO, socket or device. Null: done. Otherwise the reason, for people, why it cannot be had here
   * (devices need root; some file systems have no links): the restore goes on without it.
   */
  createOther(entry: Entry): string | null {
    if (entry.type === 'symlink' && !entry.target) return 'the backup holds no target for this symbolic link'
    try {
      this.#at(entry.path, (parent, name) => createSpecial(entry, parent, name))
      return null
    } catch (error) {
      const code = causeCode(error)
      if (!UNAVAILABLE.has(code)) throw error
      return `a ${entry.type} cannot be made here (${code}${code === 'EPERM' ? ': it takes root or is not supported' : ''})`
    }
  }

  /**
   * Another name for the entry that `entry.hardLink` names; it shares content and all attributes. Null: done. Otherwise
   * the reason why not: the first name `isAbsent`, so there is no content, or this file system has no (more) hard links.
   */
  createHardLink(entry: Entry): { isAbsent: boolean; detail: string } | null {
    const first = entry.hardLink ?? ''
    validateEntryPath(first)
    try {
      this.#at(entry.path, (_, name) => {
        // The next look-up may close the handle of the one before, so this one is held by a handle of its own.
        const from = openAt(this.#handles.get(parentOf(first)), '.', O_PATH | O_DIRECTORY)
        try {
          linkAt(from, nameOf(first), this.#handles.get(parentOf(entry.path)), name)
        } finally {
          close(from)
        }
      })
      return null
    } catch (error) {
      const code = causeCode(error)
      if (!UNLINKABLE.has(code)) throw error
      const isAbsent = code === 'ENOENT'
      const why = isAbsent ? `${code}: it was not restored` : code
      return { isAbsent, detail: `a hard link to ${displayPath(first)} cannot be made (${why})` }
    }
  }

  /**
   * Owner, mode, extended attributes, time, in the one order in which none undoes another. Content must have been
   * written, and a directory filled and synced: creating names in it changes its time, and its mode may lock it. Returns the reasons, for people, of what could not be applied. `fd`
   * saves opening a file that is open already. Not for hard links: they share what their first name has.
   */
  setAttributes(entry: Entry, options: ApplyOptions, fd?: number): string[] {
    if (fd !== undefined) return applyToHandle(fd, entry, options)
    if (entry.path === '') return this.#withDirectory('', (handle) => applyToHandle(handle, entry, options))
    if (entry.type === 'directory')
      return this.#withDirectory(entry.path, (handle) => applyToHandle(handle, entry, options))
    return this.#at(entry.path, (parent, name) => {
      if (entry.type !== 'file') return applyToName(parent, name, entry, options)
      const file = openRegular(parent, name, O_RDONLY)
      try {
        return applyToHandle(file, entry, options)
      } finally {
        close(file)
      }
    })
  }

  /** Makes the names in a directory durable; the files' own content needs their own fsync. */
  syncDirectory(path: EntryPath): void {
    this.#withDirectory(path, fsyncSync)
  }

  /** Makes everything durable that was written to the file systems of root and places, in one call each: cheaper than each file by itself. */
  syncFilesystem(): void {
    for (const path of ['', ...this.#places]) this.#withDirectory(path, syncFilesystemOf)
  }

  close(): void {
    this.#handles.close()
  }

  #at<T>(path: EntryPath, act: (parent: number, name: string) => T): T {
    validateEntryPath(path)
    if (path === '')
      throw new RegainError('repository-damaged', 'The listing gives the root a type other than directory.')
    try {
      return act(this.#handles.get(parentOf(path)), nameOf(path))
    } catch (error) {
      throw targetError(error, path)
    }
  }

  /** With a handle that can be read and synced, which an O_PATH handle cannot. */
  #withDirectory<T>(path: EntryPath, act: (fd: number) => T): T {
    validateEntryPath(path)
    try {
      const fd = openAt(this.#handles.get(path), '.', O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      try {
        return act(fd)
      } finally {
        close(fd)
      }
    } catch (error) {
      throw targetError(error, path)
    }
  }
}

/** Handles of the root and its places. Throws as TargetTree does. */
export function openTarget(
  { directory, places }: TargetRoot,
  options: { handleLimit?: number; openat2?: boolean } = {},
): DirectoryHandles {
  const opened: number[] = []
  const open = (path: string): number => {
    try {
      opened.push(openAt(AT_FDCWD, path, O_PATH | O_DIRECTORY))
      return opened.at(-1) as number
    } catch (error) {
      for (const fd of opened) close(fd)
      throw targetError(error, path)
    }
  }
  const root = open(directory)
  return new DirectoryHandles(root, {
    places: new Map(places.map((place) => [place.path, open(place.directory)])),
    ...(options.handleLimit === undefined ? {} : { limit: options.handleLimit }),
    ...(options.openat2 === undefined ? {} : { openat2: options.openat2 }),
  })
}

export function parentOf(path: EntryPath): EntryPath {
  const slash = path.lastIndexOf('/')
  return slash === -1 ? '' : path.slice(0, slash)
}

export function nameOf(path: EntryPath): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** Refuses anything but a regular file, and does not wait for a FIFO's other end to find out. */
function openRegular(parent: number, name: string, flags: number): number {
  const fd = openAt(parent, name, flags | O_NOFOLLOW | O_NONBLOCK)
  if (fstatSync(fd).isFile()) return fd
  close(fd)
  throw new RegainError('repository-damaged', `Not the regular file that this restore made: ${displayPath(name)}`)
}

const NODE_TYPES: Partial<Record<EntryType, number>> = {
  fifo: 0o010000,
  'character-device': 0o020000,
  'block-device': 0o060000,
  socket: 0o140000,
}

function createSpecial(entry: Entry, parent: number, name: string): void {
  if (entry.type === 'symlink') {
    symlinkAt(entry.target ?? '', parent, name)
    return
  }
  const type = NODE_TYPES[entry.type]
  if (type === undefined) {
    throw new RegainError('repository-damaged', `A ${entry.type} is not made this way: ${displayPath(entry.path)}`)
  }
  mknodAt(parent, name, type | 0o600, entry.major, entry.minor)
}

/** What a file system or a user without rights says to a kind of file, as opposed to a restore that cannot go on. */
const UNAVAILABLE = new Set(['EPERM', 'ENOTSUP', 'EINVAL', 'ENOSYS', 'ENAMETOOLONG'])
const UNLINKABLE = new Set(['EPERM', 'ENOTSUP', 'ENOENT', 'EMLINK', 'EXDEV', 'ENAMETOOLONG'])

function causeCode(error: unknown): string {
  return error instanceof Error ? errorCode(error.cause) : ''
}

export function targetError(error: unknown, path: string): unknown {
  if (error instanceof RegainError) return error
  const shown = path === '' ? 'the target directory' : displayPath(path)
  const detail = error instanceof Error ? error.message : String(error)
  switch (errorCode(error)) {
    case 'ELOOP':
    case 'ENOTDIR':
      return new RegainError(
        'repository-damaged',
        `Refused to write ${shown}: a folder on its way is a symbolic link or a file. The listing is hostile or damaged, or someone else changes the target during the restore.`,
        { cause: error },
      )
    case 'EEXIST':
      return new RegainError(
        'target-not-empty',
        `${shown} exists already: someone else writes to the target, or its file system takes two names of the backup for one.`,
        { cause: error },
      )
    case 'ENOSPC':
    case 'EDQUOT':
      return new RegainError('target-full', `No space is left for ${shown} at the restore's target.`, { cause: error })
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new RegainError('not-permitted', `${shown} cannot be written at the restore's target: ${detail}`, {
        cause: error,
      })
    case '':
      return error
    default:
      return new RegainError('precondition-failed', `${shown} cannot be written at the restore's target: ${detail}`, {
        hint: 'Name a directory on another file system with --to.',
        cause: error,
      })
  }
}
