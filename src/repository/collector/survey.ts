import { throwIfInterrupted } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { type Catalog, readCatalog } from './catalog.ts'
import { type Marks, mark } from './mark.ts'
import { type Roots, readRoots } from './roots.ts'

const ATTEMPTS = 3

export interface Survey {
  found: Roots
  catalog: Catalog
  marks: Marks
}

/**
 * A mark, in the order that makes it one: points, **then** pins, then the index, then the packs. Other collectors may remove
 * a point's data after the points were read, and merge the index while it is: what then seems to be lost is looked for again. Rejects
 * with `repository-damaged` if it is lost.
 */
export async function survey(
  state: RepositoryState,
  options: {
    tombstones: ReadonlySet<string>
    /** Points taken for expired. */
    except?: ReadonlySet<string>
    signal: AbortSignal
    progress(progress: Progress): void
  },
): Promise<Survey> {
  const { signal, progress, tombstones } = options
  for (let attempt = 1; ; attempt++) {
    throwIfInterrupted(signal)
    try {
      const found = await readRoots(state, options)
      const catalog = await readCatalog(state, tombstones, signal)
      const marks = await mark({ state, signal, progress }, catalog, found.roots)
      return { found, catalog, marks }
    } catch (error) {
      if (!isLoss(error) || attempt === ATTEMPTS) throw error
    }
  }
}
