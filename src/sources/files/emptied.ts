import { isRegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { comparePaths, type Entry, type EntryPath, type Missed } from '../../model.ts'
import type { BasePoint } from '../contract.ts'
import { absolutePath, isWithin, type Roots } from './roots.ts'

/**
 * A configured path with nothing in it is the rule for a folder that was just made, and the trace of a disaster for one
 * that held files: its file system is not mounted, or somebody emptied it. A point of it would be complete, and each
 * next one would push an older one with the files out of its retention. So such a point counts as incomplete, and so do
 * its followers, until there are files again or the path is taken out of the configuration.
 */

/** What of the wanted paths is in the point, noted as entries come by in order. */
export class WantedContent {
  readonly #wanted: readonly EntryPath[]
  readonly #held = new Set<EntryPath>()
  #next = 0

  constructor(wanted: readonly EntryPath[]) {
    this.#wanted = wanted
  }

  note({ type, path }: Entry): void {
    if (type === 'directory') return
    let wanted = this.#wanted[this.#next]
    while (wanted !== undefined && !isBelow(path, wanted) && comparePaths(wanted, path) < 0)
      wanted = this.#wanted[++this.#next]
    if (wanted !== undefined && isBelow(path, wanted)) this.#held.add(wanted)
  }

  /** Wanted paths of which there is nothing but folders. */
  empty(): EntryPath[] {
    return this.#wanted.filter((path) => !this.#held.has(path))
  }
}

export interface Emptied {
  /** Absolute paths that earlier points held files of, and this one does not: kept in the point's positions. */
  paths: string[]
  missed: Missed[]
}

/** Judges paths without files by the point before. Where that held none either, `warn` hears of it. */
export async function judgeEmpty(
  empty: readonly EntryPath[],
  roots: Roots,
  known: { base: BasePoint | null; missed: readonly Missed[] },
  warn: (message: string) => void,
): Promise<Emptied> {
  const judged: Emptied = { paths: [], missed: [] }
  for (const path of empty) {
    const absolute = absolutePath(roots.root, path)
    // That it could not be read has been said; that there is nothing in it is no second finding then.
    const isExplained = known.missed.some((missed) => isBelow(missed.path, path))
    if (!(await wasHeld(absolute, known.base))) {
      if (!isExplained)
        warn(`${displayPath(absolute)} holds no files that are to be backed up: the point has none of it.`)
      continue
    }
    judged.paths.push(absolute)
    if (isExplained) continue
    judged.missed.push({
      path,
      reason: 'vanished',
      detail: `Earlier points hold files of ${displayPath(absolute)}, and now there are none. Is its file system mounted, does \`exclude\` take everything? If it is meant to be empty, put a file into it, or take it out of \`paths\`.`,
    })
  }
  return judged
}

/** Whether the previous point holds anything but folders of a path, or says that earlier ones did. */
async function wasHeld(absolute: string, base: BasePoint | null): Promise<boolean> {
  if (base === null) return false
  const { emptied } = base.point.positions
  if (Array.isArray(emptied) && emptied.includes(absolute)) return true
  const { root } = base.point
  if (!isWithin(absolute, root) && !isWithin(root, absolute)) return false
  try {
    for await (const { type, path } of base.entries())
      if (type !== 'directory' && isWithin(absolutePath(root, path), absolute)) return true
  } catch (error) {
    // A base that cannot be read (any more) costs only this comparison; verification is what finds damage.
    if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
  }
  return false
}

function isBelow(path: EntryPath, folder: EntryPath): boolean {
  return folder === '' || path === folder || path.startsWith(`${folder}/`)
}
