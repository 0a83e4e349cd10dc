import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import type { PointReader, RestoreSummary, RestoreTarget, SourceOptions } from '../contract.ts'
import { globExpression } from './glob.ts'
import { keptFiles } from './kept-files.ts'

/** Lays the point's entries out below the target, or those of them that `target.path` names. */
export async function restoreFiles(
  reader: PointReader,
  target: RestoreTarget,
  options: SourceOptions,
  exclude: readonly string[],
): Promise<RestoreSummary> {
  refuseMoment(target)
  if (target.start) options.warn('A files source has nothing to start: its files are restored, --start is ignored.')
  const isRoot = process.geteuid?.() === 0
  if (!isRoot) {
    options.warn(
      'Not restored as root: all files will belong to the user who runs this, and devices cannot be made. Owners stay recorded in the point.',
    )
  }
  const selected = target.path === null ? null : await selectEntries(reader, target.path, options)
  const summary = await reader.materialize(target.directory, {
    ...options,
    ownership: isRoot,
    ...(target.inPlace === undefined
      ? {}
      : { over: { changing: target.inPlace.changing, keep: keptFiles(reader.point, exclude) } }),
    ...(selected === null
      ? {}
      : { select: (entry: Entry) => selected.has(entry.path), wants: selected.wants.bind(selected) }),
  })
  return { ...summary, reached: reader.point.startedAt }
}

function refuseMoment({ at }: RestoreTarget): void {
  if (at.kind === 'latest' || at.kind === 'point' || at.kind === 'time') return
  const named = { lsn: 'a log position', xid: 'a transaction', name: 'a named restore point' }[at.kind]
  throw new RegainError('usage', `Files can't be restored to ${named}: only a database's log has those.`, {
    hint: 'Say --at latest, a time, or the id of a point.',
  })
}

interface Selection {
  has(path: EntryPath): boolean
  wants(first: EntryPath, next: EntryPath | null): boolean
}

/**
 * One pass over the listing, as far as anything may match, before anything is written, because a folder comes before what
 * makes it wanted, and so does the first name of a hard link. What a match needs is added: the folders above it, and that
 * first name.
 */
async function selectEntries(reader: PointReader, glob: string, options: SourceOptions): Promise<Selection> {
  const relative = relativeGlob(glob, reader.point.root)
  const matches = matcher(relative)
  const within = literalFolder(relative)
  const needed = new Set<EntryPath>()
  let count = 0
  for await (const entry of reader.entries((first, next) => meets(within, first, next))) {
    throwIfInterrupted(options.signal)
    if (!matches(entry.path)) continue
    count += 1
    addFolders(needed, entry.path)
    if (entry.hardLink === undefined || matches(entry.hardLink)) continue
    needed.add(entry.hardLink)
    addFolders(needed, entry.hardLink)
    options.warn(
      `${displayPath(entry.path)} is a hard link to ${displayPath(entry.hardLink)}, which is restored too: the content is kept there.`,
    )
  }
  if (count === 0) {
    throw new RegainError('precondition-failed', `Nothing in point ${reader.point.id} matches ${displayPath(glob)}.`, {
      hint: `List what there is with: regain ls ${reader.point.id}`,
    })
  }
  const sorted = [...needed].sort(comparePaths)
  return {
    has: (path) => needed.has(path) || matches(path),
    wants: (first, next) => {
      const reached = firstAtOrAfter(sorted, first)
      return meets(within, first, next) || (reached !== undefined && isBetween(reached, first, next))
    },
  }
}

/** Everything that can match is this path or lies below it: the glob up to its first component with a sign of globs. */
function literalFolder(glob: string): EntryPath {
  const components = glob.split('/')
  const special = components.findIndex((component) => /[*?[\\]/.test(component))
  return (special === -1 ? components : components.slice(0, special)).join('/')
}

/** Is the folder, or anything below it, one of the paths from `first` on and before `next`? They follow it without a gap. */
function meets(folder: EntryPath, first: EntryPath, next: EntryPath | null): boolean {
  return folder === '' || first.startsWith(`${folder}/`) || isBetween(folder, first, next)
}

function firstAtOrAfter(sorted: readonly EntryPath[], path: EntryPath): EntryPath | undefined {
  let low = 0
  for (let high = sorted.length; low < high; ) {
    const middle = (low + high) >>> 1
    if (comparePaths(sorted[middle] as EntryPath, path) < 0) low = middle + 1
    else high = middle
  }
  return sorted[low]
}

function isBetween(path: EntryPath, first: EntryPath, next: EntryPath | null): boolean {
  return comparePaths(first, path) <= 0 && (next === null || comparePaths(path, next) < 0)
}

function addFolders(needed: Set<EntryPath>, path: EntryPath): void {
  for (let slash = path.lastIndexOf('/'); slash !== -1; slash = path.lastIndexOf('/', slash - 1)) {
    const folder = path.slice(0, slash)
    if (needed.has(folder)) return
    needed.add(folder)
  }
  needed.add('')
}

/**
 * A glob is about paths from the root (absolute ones below it are understood too), and a path that fits it brings all
 * below it. A path that is there under exactly this name is meant, whatever the glob's characters would say.
 */
function matcher(relative: string): (path: EntryPath) => boolean {
  if (relative === '') return () => true
  const expression = globExpression(relative)
  const fits = (path: EntryPath): boolean => path === relative || expression.test(path)
  return (path) => {
    for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
      if (fits(path.slice(0, slash))) return true
    }
    return fits(path)
  }
}

function relativeGlob(glob: string, root: string): string {
  const trimmed = glob.replace(/\/+$/, '').replace(/^(\.\/+)+/, '')
  if (trimmed === '' || trimmed === '.' || trimmed === root) return ''
  const prefix = root === '/' ? '/' : `${root}/`
  if (trimmed.startsWith(prefix)) return trimmed.slice(prefix.length)
  return trimmed.replace(/^\/+/, '')
}
