import { lstatSync, readdirSync, statfsSync } from 'node:fs'
import { inspect } from '../../filesystem/attributes.ts'
import { errorCode } from '../../filesystem/libc.ts'
import { latin1ToPath } from '../../filesystem/names.ts'
import { readOwnerNames } from '../../filesystem/owners.ts'
import { reach } from '../../filesystem/reach.ts'
import type { Entry, EntryPath, Missed } from '../../model.ts'
import type { Excludes } from './exclude.ts'
import { isKernelFileSystem } from './kernel-file-systems.ts'

export interface WalkOptions {
  root: string
  /** Relative to the root, in order, none within another. Folders above them are walked only towards them. */
  wanted: readonly EntryPath[]
  excludes: Excludes
  /** Absolute paths that are left out with all below them: the repository itself, Regain's own state. */
  skip: ReadonlySet<string>
  /** False: another file system that is mounted in the tree is an empty folder. */
  crossFileSystems: boolean
  missed(missed: Missed): void
  warn(message: string): void
}

export interface Walked {
  entry: Entry
  /** Absolute, in the convention of EntryPath. */
  path: string
  /** Number of names of the inode. */
  links: number
}

interface Frame {
  /** With a slash at the end, so that a child's path is one concatenation; the relative one is '' for the root. */
  absolute: string
  relative: string
  names: string[]
  next: number
  device: string
  /** Only names on the way to something wanted are looked at. */
  isAbove: boolean
  /** Names in it that are left out; null: none, as nearly everywhere. */
  skip: ReadonlySet<string> | null
}

/**
 * Walks a tree depth-first in the order of comparePaths. Memory holds the names of one folder per level, nothing else.
 *
 * What vanishes between the listing of its folder and the look at it is left out without a word: a backup a moment later
 * would not have seen it either, and nothing of it was promised. What is there but cannot be read is told to `missed`.
 */
export class Walk {
  readonly #options: WalkOptions
  readonly #attributes: Parameters<typeof inspect>[2]
  readonly #frames: Frame[] = []
  #started = false
  #path: EntryPath = ''

  constructor(options: WalkOptions) {
    this.#options = options
    this.#attributes = {
      owners: readOwnerNames(),
      problem: (detail) => this.#miss(this.#path, detail),
    }
  }

  /** The next entry, or null at the end. */
  next(): Walked | null {
    if (!this.#started) {
      this.#started = true
      const root = this.#visit(this.#options.root, '', '', null)
      if (root !== null) return root
    }
    for (;;) {
      const frame = this.#frames.at(-1)
      if (frame === undefined) return null
      const name = frame.names[frame.next]
      if (name === undefined) {
        this.#frames.pop()
        continue
      }
      frame.next += 1
      const walked = this.#visit(frame.absolute + name, frame.relative + name, name, frame)
      if (walked !== null) return walked
    }
  }

  #visit(path: string, relative: EntryPath, name: string, parent: Frame | null): Walked | null {
    // What a person named is wanted, whatever the patterns say.
    const mayExclude = !this.#options.excludes.isEmpty && parent !== null && !parent.isAbove
    if (mayExclude && this.#isExcluded(relative, name)) return null
    if (parent === null ? this.#options.skip.has(path) : parent.skip?.has(name)) return null
    const walked = this.#inspect(path, relative)
    if (walked === null) return null
    const isDirectory = walked.entry.type === 'directory'
    if (mayExclude && this.#options.excludes.excludes(relative, name, isDirectory)) return null
    if (!isDirectory) return walked
    return this.#enter(walked, parent) ? walked : null
  }

  /** True where no look at the type could change it: an excluded network folder that hangs is then never touched. */
  #isExcluded(relative: EntryPath, name: string): boolean {
    const { excludes } = this.#options
    return excludes.excludes(relative, name, false) && (!excludes.needsType || excludes.excludes(relative, name, true))
  }

  #inspect(path: string, relative: EntryPath): Walked | null {
    this.#path = relative
    try {
      const { entry, links } = inspect(path, relative, this.#attributes)
      return { entry, links, path }
    } catch (error) {
      if (!isVanished(error)) this.#miss(relative, `Its attributes cannot be read (${reason(error)}).`)
      return null
    }
  }

  /** Lists the folder and makes it the current one. False if it vanished meanwhile. */
  #enter(folder: Walked, parent: Frame | null): boolean {
    const { entry, path } = folder
    const device = entry.device ?? ''
    const names = this.#isBarred(folder, parent) ? [] : this.#list(folder)
    if (names === null) return false
    if (names.length === 0) return true
    const absolute = path === '/' ? '/' : `${path}/`
    this.#frames.push({
      absolute,
      relative: entry.path === '' ? '' : `${entry.path}/`,
      names,
      next: 0,
      device,
      isAbove: this.#isAbove(entry.path),
      skip: this.#skipIn(absolute),
    })
    return true
  }

  #skipIn(folder: string): ReadonlySet<string> | null {
    let names: Set<string> | null = null
    for (const path of this.#options.skip) {
      if (!path.startsWith(folder) || path.includes('/', folder.length)) continue
      names ??= new Set()
      names.add(path.slice(folder.length))
    }
    return names
  }

  /** Where another file system begins that is not to be entered: the folder itself is kept, as a place to mount on. */
  #isBarred(folder: Walked, parent: Frame | null): boolean {
    const { entry, path } = folder
    // Not where a person named the folder, or one below it.
    if (parent === null || parent.isAbove || entry.device === parent.device) return false
    if (!this.#options.crossFileSystems) return true
    if (!reach(path, (reachable) => isKernelFileSystem(statfsSync(reachable).type))) return false
    this.#options.warn(`${path} shows the kernel's own state, not data: its content is left out.`)
    return true
  }

  #list(folder: Walked): string[] | null {
    const { entry, path } = folder
    if (this.#isAbove(entry.path)) return this.#namesTowardsWanted(entry.path)
    try {
      const names = reach(path, (reachable) => readdirSync(reachable, { encoding: 'latin1' }))
      for (let i = 0; i < names.length; i++) names[i] = latin1ToPath(names[i] as string)
      names.sort()
      // Had the folder become a link while it was listed, these would be another folder's names.
      return this.#isStill(folder) ? names : null
    } catch (error) {
      if (isVanished(error)) return null
      this.#miss(entry.path, `This folder cannot be listed (${reason(error)}), so nothing below it is in the backup.`)
      return []
    }
  }

  #isStill({ entry, path }: Walked): boolean {
    const now = reach(path, (reachable) => lstatSync(reachable, { bigint: true }))
    return now.isDirectory() && now.ino.toString() === entry.inode
  }

  #isAbove(relative: EntryPath): boolean {
    const { wanted } = this.#options
    if (wanted.length === 1 && wanted[0] === '') return false
    return relative === '' || wanted.some((path) => path.startsWith(`${relative}/`))
  }

  #namesTowardsWanted(relative: EntryPath): string[] {
    const prefix = relative === '' ? '' : `${relative}/`
    const names = new Set<string>()
    for (const path of this.#options.wanted) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split('/', 1)[0] as string)
    }
    return [...names].sort()
  }

  #miss(path: EntryPath, detail: string): void {
    this.#options.missed({ path, reason: 'unreadable', detail })
  }
}

/** Gone, or no longer what it was: a folder on its way was removed or replaced. */
function isVanished(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errorCode(error))
}

function reason(error: unknown): string {
  const code = errorCode(error)
  if (code === '') throw error
  return code === 'EACCES' ? 'EACCES: this user may not' : code
}
