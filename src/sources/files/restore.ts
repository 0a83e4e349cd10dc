import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry, EntryPath } from '../../model.ts'
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
    ...(selected === null ? {} : { select: (entry: Entry) => selected.has(entry.path) }),
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
}

/**
 * One pass over the listing before anything is written, because a folder comes before what makes it wanted, and so does
 * the first name of a hard link. What a match needs is added: the folders above it, and that first name.
 */
async function selectEntries(reader: PointReader, glob: string, options: SourceOptions): Promise<Selection> {
  const matches = matcher(glob, reader.point.root)
  const needed = new Set<EntryPath>()
  let count = 0
  for await (const entry of reader.entries()) {
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
  return { has: (path) => needed.has(path) || matches(path) }
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
function matcher(glob: string, root: string): (path: EntryPath) => boolean {
  const relative = relativeGlob(glob, root)
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
