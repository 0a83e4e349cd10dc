import { fstatSync, lstatSync, readdirSync } from 'node:fs'
import type { Entry, EntryPath } from '../model.ts'
import type { DirectoryHandles } from './directory-handles.ts'
import { validateEntryPath } from './entry-path.ts'
import {
  close,
  errorCode,
  listXattrs,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  openAt,
  removeXattr,
  unlinkAt,
} from './libc.ts'
import { bytesToPath, displayPath, latin1ToPath, pathToBytes } from './names.ts'
import { nameOf, openTarget, parentOf, type TargetRoot, targetError } from './target.ts'

/** What stands at a path of a target. */
export interface Found {
  kind: 'file' | 'directory' | 'other'
  /** Names of the same inode. */
  links: number
  /** This user may read and write it. */
  isOpen: boolean
}

/**
 * What is in a target before a restore over it: to look at it and to remove of it, never following a symbolic link and
 * never leaving the file systems that root and places are on. Synchronous; errors as TargetTree's.
 */
export class ExistingTree {
  readonly #handles: DirectoryHandles

  private constructor(handles: DirectoryHandles) {
    this.#handles = handles
  }

  /** Close it before anything else is written to the target: its handles are of directories that may be removed. */
  static open(root: TargetRoot): ExistingTree {
    return new ExistingTree(openTarget(root))
  }

  /** Null: nothing. A symbolic link is something else. */
  look(path: EntryPath): Found | null {
    return this.#at(path, (parent, name) => {
      const stat = lstatSync(throughHandle(parent, name), { throwIfNoEntry: false })
      if (stat === undefined) return null
      const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other'
      const user = process.geteuid?.()
      const isOpen = user === 0 || (stat.uid === user && (stat.mode & 0o600) === 0o600)
      return { kind, links: stat.nlink, isOpen }
    })
  }

  /** Names in a directory, or in the root (`''`). */
  names(path: EntryPath): EntryPath[] {
    validateEntryPath(path)
    try {
      const fd = openAt(this.#handles.get(path), '.', O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      try {
        return namesIn(fd)
      } finally {
        close(fd)
      }
    } catch (error) {
      throw targetError(error, path)
    }
  }

  /**
   * Removes what stands there, with all below it but what is mounted there: that is not the target's. Gives the paths of
   * that, which stay with the folders above them.
   */
  remove(path: EntryPath): EntryPath[] {
    const mounted: EntryPath[] = []
    this.#at(path, (parent, name) => removeBelow(parent, name, path, mounted))
    this.#handles.forget(path)
    return mounted
  }

  /** Takes away the extended attributes that the entry does not have. The reasons, for people, of what could not be. */
  dropXattrs(entry: Entry): string[] {
    if (entry.path === '') return []
    return this.#at(entry.path, (parent, name) => {
      const path = throughHandle(parent, name)
      const problems: string[] = []
      for (const raw of listXattrs(path)) {
        const attribute = Buffer.from(raw, 'latin1')
        const shown = bytesToPath(attribute)
        if (Object.hasOwn(entry.xattrs ?? {}, shown)) continue
        try {
          removeXattr(path, attribute)
        } catch (error) {
          problems.push(`extended attribute ${displayPath(shown)} could not be removed (${errorCode(error)})`)
        }
      }
      return problems
    })
  }

  close(): void {
    this.#handles.close()
  }

  #at<T>(path: EntryPath, act: (parent: number, name: string) => T): T {
    validateEntryPath(path)
    try {
      return act(this.#handles.get(parentOf(path)), nameOf(path))
    } catch (error) {
      throw targetError(error, path)
    }
  }
}

function throughHandle(parent: number, name: string): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${parent}/`), pathToBytes(name)])
}

function namesIn(fd: number): EntryPath[] {
  return readdirSync(`/proc/self/fd/${fd}`, { encoding: 'latin1' }).map(latin1ToPath)
}

function removeBelow(parent: number, name: string, path: EntryPath, mounted: EntryPath[]): void {
  try {
    unlinkAt(parent, name, { directory: false })
    return
  } catch (error) {
    if (errorCode(error) !== 'EISDIR') throw error
  }
  const fd = openAt(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  try {
    const parentDevice = lstatSync(`/proc/self/fd/${parent}/.`).dev
    if (fstatSync(fd).dev !== parentDevice) {
      mounted.push(path)
      return
    }
    const before = mounted.length
    for (const below of namesIn(fd)) removeBelow(fd, below, `${path}/${below}`, mounted)
    if (mounted.length > before) return
  } finally {
    close(fd)
  }
  unlinkAt(parent, name, { directory: true })
}
