import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { createGeneration, newestGeneration, readGeneration } from '../generations.ts'
import { listPacks } from '../packs/chunk-index.ts'
import type { RepositoryState } from '../repository-state.ts'

const MAX_STARTS = 20

/** A generation as whoever removes by it sees it. */
export interface Generation {
  number: number
  /** Hex names of packs. */
  tombstones: ReadonlySet<string>
  /** As read, while another may have read more: nobody goes on as this one's own collector. */
  isAll: boolean
}

/** The newest, read before the packs of the next one are listed. */
export async function readNewest(state: RepositoryState, signal: AbortSignal): Promise<Generation> {
  for (let start = 0; start < MAX_STARTS; start++) {
    throwIfInterrupted(signal)
    const number = await newestGeneration(state, signal)
    const read = await readGeneration(state, number, signal)
    if (read) return { number, tombstones: read.packs, isAll: read.isAll }
  }
  throw overtaken()
}

/**
 * Steps 1 to 3 of the collector. T(n + 1) = what of T(n) is still there (so a copy that was once marked stays marked until it
 * is gone), and the wanted packs. Which packs are wanted decides nothing about safety: that the second mark does. Where nothing
 * is new, this goes on as n's own collector, at its third step. Null: a newer generation came, so nothing may be removed by this one.
 */
export async function publishGeneration(
  state: RepositoryState,
  wanted: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Generation | null> {
  for (let start = 0; start < MAX_STARTS; start++) {
    const newest = await readNewest(state, signal)
    const listed = await listPacks(state, signal)
    const carried = [...newest.tombstones].filter((name) => listed.has(name))
    const fresh = [...wanted].filter((name) => listed.has(name) && !newest.tombstones.has(name))
    if (fresh.length === 0 && !newest.isAll) return newest
    const number = newest.number + 1
    const tombstones = [...carried, ...fresh].sort()
    if (!(await createGeneration(state, number, tombstones, signal))) continue
    if ((await newestGeneration(state, signal)) !== number) return null
    return { number, tombstones: new Set(tombstones), isAll: false }
  }
  throw overtaken()
}

function overtaken(): RegainError {
  return new RegainError(
    'storage-unavailable',
    `Other prunes overtook this one ${MAX_STARTS} times in a row. What it had not removed yet is left to the next one.`,
  )
}
