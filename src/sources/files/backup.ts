import { statfsSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath, pathToBytes } from '../../filesystem/names.ts'
import { reach } from '../../filesystem/reach.ts'
import type { Missed } from '../../model.ts'
import type { BackupOptions, PointWriter, SourceSummary } from '../contract.ts'
import { BaseEntries } from './base-entries.ts'
import { judgeEmpty, WantedContent } from './emptied.ts'
import { Excludes } from './exclude.ts'
import { HardLinks } from './hard-links.ts'
import { isKernelFileSystem } from './kernel-file-systems.ts'
import { isWithin, locateRoots, type Roots, realPath, wantedPaths } from './roots.ts'
import { Walk, type Walked } from './walk.ts'

export interface FilesBackup {
  paths: readonly string[]
  exclude: readonly string[]
  /** Absolute paths that are never part of a backup: the destination's folder, Regain's state. */
  skip: readonly string[]
  crossFileSystems: boolean
}

/** The walk is synchronous and fast; after this many entries others get their turn, and progress is told. */
const ENTRIES_PER_TURN = 256

/** Reads the tree into `writer`. When it resolves, every file has been read or reported as missed. */
export async function backupFiles(
  plan: FilesBackup,
  writer: PointWriter,
  options: BackupOptions,
): Promise<SourceSummary> {
  const roots = locateRoots(plan.paths)
  const missed = absentPaths(roots)
  for (const { path, real } of roots.links) {
    options.warn(`${displayPath(path)} leads through a symbolic link: what is backed up is ${displayPath(real)}.`)
  }
  const skip = new Set(plan.skip.map(realPath))
  refuseUnsuitable(roots, skip)
  const walk = new Walk({
    root: roots.root,
    wanted: roots.wanted,
    excludes: new Excludes(plan.exclude, roots.root),
    skip,
    crossFileSystems: plan.crossFileSystems,
    missed: (one) => missed.push(one),
    warn: options.warn,
  })
  const base = usableBase(writer, roots.root, options)
  const links = new HardLinks()
  try {
    const content = new WantedContent(roots.wanted)
    const sourceBytes = await hand(walk, { writer, base, links, content, options })
    await writer.allRead()
    missed.push(...links.orphans())
    const emptied = await judgeEmpty(content.empty(), roots, { base: writer.base, missed }, options.warn)
    missed.push(...emptied.missed)
    return {
      kind: base === null ? 'full' : 'incremental',
      root: roots.root,
      positions: { paths: [...plan.paths], ...(emptied.paths.length === 0 ? {} : { emptied: emptied.paths }) },
      sourceBytes,
      missed,
    }
  } finally {
    await base?.close()
  }
}

interface Parts {
  writer: PointWriter
  base: BaseEntries | null
  links: HardLinks
  content: WantedContent
  options: BackupOptions
}

/** Hands every entry to the writer, in order. Returns the bytes of all files, each inode once. */
async function hand(walk: Walk, parts: Parts): Promise<number> {
  const { options } = parts
  let sourceBytes = 0
  let count = 0
  for (let walked = walk.next(); walked !== null; walked = walk.next()) {
    throwIfInterrupted(options.signal)
    await handOne(walked, parts)
    parts.content.note(walked.entry)
    if (walked.entry.hardLink === undefined) sourceBytes += walked.entry.size ?? 0
    count += 1
    if (count % ENTRIES_PER_TURN !== 0) continue
    options.progress({ phase: 'reading', bytesDone: sourceBytes, filesDone: count })
    await nextTurn()
  }
  options.progress({ phase: 'reading', bytesDone: sourceBytes, filesDone: count })
  return sourceBytes
}

async function handOne(walked: Walked, { writer, base, links }: Parts): Promise<void> {
  const { entry } = walked
  const { hardLink, lose } = links.join(walked)
  if (hardLink !== null) {
    entry.hardLink = hardLink
    return writer.add(entry)
  }
  if (entry.type !== 'file' || entry.size === 0) return writer.add(entry)
  const ahead = base?.advance(entry.path)
  if (ahead) await ahead
  const before = base?.find(entry.path)
  if (before && base?.isUnchanged(entry, before) && (await writer.addUnchanged(entry, before))) return
  const missed = (one: Missed) => {
    // The writer itself puts it on the point's list; here only what hangs on it matters.
    if (one.reason !== 'changed') lose()
  }
  // Another file's content would become that of all its names.
  await writer.addFile(entry, pathToBytes(walked.path), missed, { sameInode: walked.links > 1 })
}

/** The previous point, if unchanged files may be taken from it. Says why not, where a person might expect it. */
function usableBase(writer: PointWriter, root: string, options: BackupOptions): BaseEntries | null {
  if (options.kind === 'full') return null
  if (writer.base === null) {
    options.warn('There is no earlier point of this source to build on: all files are read.')
    return null
  }
  if (writer.base.point.root !== root) {
    options.warn(
      `The previous point is of ${displayPath(writer.base.point.root)}, this one of ${displayPath(root)}: all files are read.`,
    )
    return null
  }
  return new BaseEntries(writer.base, options.warn)
}

/** With nothing there at all a point would be an empty success. */
function absentPaths(roots: Roots): Missed[] {
  if (roots.wanted.length === 0) {
    const named = roots.absent.map(({ path, code }) => `${displayPath(path)} (${code})`).join(', ')
    throw new RegainError(
      'source-unavailable',
      `Nothing that is to be backed up is there: ${named}. No point was made.`,
      {
        hint: 'Mount or create it, or correct `paths` in the configuration.',
      },
    )
  }
  return roots.absent.map(({ path, relative, code }) => ({
    path: relative,
    reason: 'unreadable',
    detail: `The configured path ${displayPath(path)} is not there or cannot be reached (${code}).`,
  }))
}

/** The very paths that were named must be ones that can be backed up; below them such things are left out instead. */
function refuseUnsuitable(roots: Roots, skip: ReadonlySet<string>): void {
  for (const path of wantedPaths(roots)) {
    if (reach(path, (reachable) => isKernelFileSystem(statfsSync(reachable).type))) {
      throw new RegainError(
        'source-unsuitable',
        `${displayPath(path)} shows the kernel's own state and holds no data to back up.`,
      )
    }
    const folder = [...skip].find((one) => isWithin(path, one))
    if (folder === undefined) continue
    throw new RegainError(
      'source-unsuitable',
      `${displayPath(path)} lies in ${displayPath(folder)}, which holds backups or Regain's own state: it would back itself up.`,
      { hint: 'Name other `paths`, or put the destination elsewhere.' },
    )
  }
}
