import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import { mapBounded } from '../bounded.ts'
import { packName } from '../format/object-names.ts'
import { decodeDirectory, type Group } from '../format/pack.ts'
import { readPackDirectory } from '../packs/pack-directories.ts'
import { deleteUnlessLocked } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { type CatalogPack, groupsOf } from './catalog.ts'
import type { Marks } from './mark.ts'
import type { Generation } from './publish-generation.ts'
import { survey } from './survey.ts'

const DELETES_AT_ONCE = 8

export interface Removal {
  state: RepositoryState
  signal: AbortSignal
  progress(progress: Progress): void
  /** A pack can't be removed yet: it stays marked. */
  locked?(name: string): void
}

/**
 * Steps 5 and 6 of the collector, once no session that may use what the generation marks is open: a second mark, of points,
 * then pins, then index, then packs; then those of `planned` go whose every chunk is dead or has another listed and indexed
 * copy that is **not marked**. (Of two marked copies neither goes: another collector might justify the other by this one.)
 * Resolves with the packs that are gone.
 */
export async function removeMarked(
  { state, signal, progress, locked = () => undefined }: Removal,
  generation: Generation,
  planned: ReadonlySet<string>,
): Promise<CatalogPack[]> {
  const { catalog, marks } = await survey(state, { tombstones: generation.tombstones, signal, progress })
  const candidates = catalog.packs.filter(({ name, marked }) => marked && planned.has(name))
  const removed: CatalogPack[] = []
  await mapBounded(candidates, DELETES_AT_ONCE, async (pack) => {
    throwIfInterrupted(signal)
    if (!(await mayGo(state, pack, marks, signal))) return
    if (!(await deleteUnlessLocked(state, packName(pack.name), signal))) return locked(pack.name)
    removed.push(pack)
    progress({ phase: 'removing', bytesDone: 0, filesDone: removed.length, filesTotal: candidates.length })
  })
  return removed
}

async function mayGo(state: RepositoryState, pack: CatalogPack, marks: Marks, signal: AbortSignal): Promise<boolean> {
  const groups = pack.directory ? groupsOf(pack) : await ownDirectory(state, pack, signal)
  if (!groups) return false
  for (const group of groups)
    for (const { id } of group.chunks) if (marks.needs(id) && marks.keeper(id).marked) return false
  return true
}

/**
 * A pack that no index named just now: its segment may have been merged into another one between two looks. Its own directory
 * tells. Null if that can't be read: then it stays, for verification to report.
 */
async function ownDirectory(state: RepositoryState, pack: CatalogPack, signal: AbortSignal): Promise<Group[] | null> {
  try {
    const { directory } = await readPackDirectory(state, pack.name, pack.sizeBytes, signal)
    return decodeDirectory(directory, packName(pack.name))
  } catch (error) {
    if (!(error instanceof RegainError) || !isLoss(error)) throw error
    state.ambient.log(
      'warning',
      `${packName(pack.name)} is in no index and can't be read, so it was left: ${error.message}`,
    )
    return null
  }
}
