import { accessSync, constants, lstatSync, realpathSync } from 'node:fs'
import { posix } from 'node:path'
import { RegainError } from '../../errors.ts'
import { errorCode } from '../../filesystem/libc.ts'
import { bytesToPath } from '../../filesystem/names.ts'
import { reach } from '../../filesystem/reach.ts'
import { comparePaths, type EntryPath } from '../../model.ts'

/** Where a source's tree stands on this machine. Absolute paths, in the convention of EntryPath. */
export interface Roots {
  root: string
  /** What was asked for, relative to the root, in order, none within another. `['']`: the root itself. */
  wanted: EntryPath[]
  /** Configured paths that lead through symbolic links, and where they really are. */
  links: { path: string; real: string }[]
  /** Configured paths that are not there or cannot be reached, and why. They stay in `wanted`'s calculation of the root. */
  absent: { path: string; relative: EntryPath; code: string }[]
}

interface Located {
  path: string
  real: string
  isDirectory: boolean
  code: string | null
}

/**
 * One folder is its own root. One file has its folder as root. Several have their deepest common folder: an entry keeps
 * its place relative to the others. Symbolic links on the way are resolved here, once; the walk follows none. A path
 * that is absent still counts for the root, so that a missing mount does not move all other entries.
 */
export function locateRoots(paths: readonly string[]): Roots {
  if (paths.length === 0) throw new RegainError('config-invalid', 'A files source needs at least one path.')
  const located = paths.map(locate)
  const tops = located.filter((one, i) => !located.some((other, j) => holds(other, one, j < i)))
  const root = commonFolder(tops)
  return {
    root,
    wanted: tops
      .filter((one) => one.code === null)
      .map((one) => relativeTo(root, one.real))
      .sort(comparePaths),
    links: located
      .filter((one) => one.code === null && one.real !== one.path)
      .map(({ path, real }) => ({ path, real })),
    absent: located
      .filter((one) => one.code !== null)
      .map(({ path, real, code }) => ({ path, relative: relativeTo(root, real), code: code ?? '' })),
  }
}

/** What is wanted and there, as absolute paths. */
export function wantedPaths(roots: Roots): string[] {
  return roots.wanted.map((path) => absolutePath(roots.root, path))
}

export function absolutePath(root: string, path: EntryPath): string {
  if (path === '') return root
  return `${root === '/' ? '' : root}/${path}`
}

/** `path` relative to `root`; '' if they are the same. */
export function relativeTo(root: string, path: string): EntryPath {
  if (path === root) return ''
  return root === '/' ? path.slice(1) : path.slice(root.length + 1)
}

export function isWithin(path: string, folder: string): boolean {
  return path === folder || folder === '/' || path.startsWith(`${folder}/`)
}

/** The path with its symbolic links resolved as far as it exists. */
export function realPath(path: string): string {
  try {
    return reach(path, (reachable) => bytesToPath(realpathSync.native(reachable, { encoding: 'buffer' })))
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(errorCode(error)) || path === '/') throw error
    return posix.join(realPath(posix.dirname(path)), posix.basename(path))
  }
}

function locate(configured: string): Located {
  if (!configured.startsWith('/')) {
    throw new RegainError('config-invalid', `The path "${configured}" of a files source is not absolute.`)
  }
  const path = configured === '/' ? '/' : posix.normalize(configured).replace(/\/$/, '')
  const real = realPath(path)
  let isDirectory = true
  try {
    const stat = reach(real, (reachable) => lstatSync(reachable))
    // Still a link after all were resolved: it points at nothing.
    if (stat.isSymbolicLink()) return { path, real, isDirectory, code: 'ENOENT' }
    isDirectory = stat.isDirectory()
    // Asked here, because a root that cannot be listed would make a point of nothing.
    if (isDirectory) reach(real, (reachable) => accessSync(reachable, constants.R_OK | constants.X_OK))
    return { path, real, isDirectory, code: null }
  } catch (error) {
    // What an absent one would be is unknown; as a folder it keeps the root of several paths where it is.
    return { path, real, isDirectory, code: errorCode(error) || 'EIO' }
  }
}

/** Of two configured paths that are the same, the first stays. */
function holds(outer: Located, inner: Located, isEarlier: boolean): boolean {
  if (outer === inner) return false
  if (outer.real === inner.real) return isEarlier
  return outer.isDirectory && isWithin(inner.real, outer.real)
}

function commonFolder(located: readonly Located[]): string {
  const folders = located.map((one) => (one.isDirectory && located.length === 1 ? one.real : posix.dirname(one.real)))
  return folders.reduce((common, folder) => {
    let shared = common
    while (!isWithin(folder, shared)) shared = posix.dirname(shared)
    return shared
  })
}
