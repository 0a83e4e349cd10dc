import { posix } from 'node:path'
import type { EntryPath, Point } from '../../model.ts'
import { Excludes } from './exclude.ts'
import { isWithin, relativeTo } from './roots.ts'

/**
 * What a restore over a folder leaves alone though the point does not have it, because the point could not have it: what lies
 * beside the configured paths, what `exclude` leaves out, and what the point itself says that it missed. If in doubt it stays.
 */
export function keptFiles(
  point: Point,
  exclude: readonly string[],
): (path: EntryPath, isDirectory: boolean) => boolean {
  const excludes = new Excludes(exclude, point.root)
  const wanted = wantedOf(point)
  const missed = point.missed.map(({ path }) => path)
  // Only so many are named.
  if (point.missedCount > missed.length) return () => true
  return (path, isDirectory) => {
    if (!wanted.some((one) => one === '' || path.startsWith(`${one}/`))) return true
    if (missed.some((one) => isWithin(one, path) || isWithin(path, one))) return true
    return excludes.excludes(path, path.slice(path.lastIndexOf('/') + 1), isDirectory)
  }
}

/** The configured paths, relative to the root. One that leads there by a symbolic link is not recognised. */
function wantedOf({ root, positions }: Point): EntryPath[] {
  if (!Array.isArray(positions.paths)) return []
  return positions.paths
    .filter((path): path is string => typeof path === 'string')
    .map((path) => (path === '/' ? path : posix.normalize(path).replace(/\/$/, '')))
    .filter((path) => isWithin(path, root))
    .map((path) => relativeTo(root, path))
}
