import { throwIfInterrupted } from '../../errors.ts'
import type { PlannedPack } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import type { ReadChunksReply } from '../compute/messages.ts'
import { packName } from '../format/object-names.ts'
import { describeStretch, stretchesOf } from '../materialize/restore-plan.ts'
import type { ChunkPlace } from '../packs/chunk-index.ts'
import { fetchGroups } from '../packs/chunk-reader.ts'
import { PackSession } from '../packs/pack-session.ts'
import { isLoss } from '../verify/damage.ts'
import { type Catalog, type CatalogPack, groupsOf } from './catalog.ts'
import type { Marks } from './mark.ts'
import { readNewest } from './publish-generation.ts'
import type { Removal } from './remove-packs.ts'
import { survey } from './survey.ts'

const STRETCHES_AT_ONCE = 4

interface NeededChunk {
  id: Buffer
  place: ChunkPlace
}

/**
 * Writes what is needed of sparse packs into new ones, and their index entries. That done, the old copies are no better than
 * any other that is there twice: whoever calls this goes on as a collector that marks and removes them, by all its steps.
 * Resolves with the packs of which nothing is needed any more. `fromReserve`: as of a store's writes.
 */
export async function repackSparse(
  removal: Removal,
  planned: readonly PlannedPack[],
  { fromReserve = false }: { fromReserve?: boolean } = {},
): Promise<{ packs: string[]; bytesWritten: number }> {
  if (planned.length === 0) return { packs: [], bytesWritten: 0 }
  const { state, signal } = removal
  const { tombstones } = await readNewest(state, signal)
  const { catalog, marks } = await survey(state, { tombstones, signal, progress: removal.progress })
  const wanted = new Set(planned.map(({ name }) => name))
  const chosen = catalog.byNumber.filter(({ name }) => wanted.has(name))
  return new Repack(removal, catalog, marks, fromReserve).run(chosen)
}

class Repack {
  private readonly removal: Removal
  private readonly catalog: Catalog
  private readonly marks: Marks
  private readonly session: PackSession

  constructor(removal: Removal, catalog: Catalog, marks: Marks, fromReserve: boolean) {
    this.removal = removal
    this.catalog = catalog
    this.marks = marks
    this.session = new PackSession(removal.state, removal.signal, { packCount: catalog.index.packCount(), fromReserve })
  }

  async run(packs: readonly CatalogPack[]): Promise<{ packs: string[]; bytesWritten: number }> {
    const { progress } = this.removal
    const done: string[] = []
    try {
      for (const pack of packs) {
        progress({
          phase: 'repacking',
          bytesDone: this.session.storedBytes,
          filesDone: done.length,
          filesTotal: packs.length,
        })
        if (await this.copy(pack)) done.push(pack.name)
      }
    } catch (error) {
      // What is stored already is found there twice by the next prune, which removes one copy.
      await this.session.giveUp()
      throw error
    }
    await this.session.finish()
    return { packs: done, bytesWritten: this.session.storedBytes }
  }

  /** False: something of it can't be read, so the pack must stay. */
  private async copy(pack: CatalogPack): Promise<boolean> {
    const content: NeededChunk[] = []
    const metadata: NeededChunk[] = []
    for (const group of groupsOf(pack))
      for (const { id } of group.chunks) {
        if (!this.marks.needs(id) || this.marks.keeper(id) !== pack) continue
        const place = this.catalog.index.locate(id) as ChunkPlace
        ;(this.marks.isMetadata(id) ? metadata : content).push({ id, place })
      }
    const stretches = [
      ...stretchesOf(content).map((chunks) => ({ chunks, isMetadata: false })),
      ...stretchesOf(metadata).map((chunks) => ({ chunks, isMetadata: true })),
    ]
    const copied = await mapBounded(stretches, STRETCHES_AT_ONCE, ({ chunks, isMetadata }) =>
      this.copyStretch(chunks, isMetadata),
    )
    return copied.every((isWhole) => isWhole)
  }

  private async copyStretch(chunks: readonly NeededChunk[], metadata: boolean): Promise<boolean> {
    const { state, signal } = this.removal
    throwIfInterrupted(signal)
    this.session.throwIfFailed()
    const { source, ids, places } = describeStretch(chunks)
    try {
      const fetched = await fetchGroups(state, source, signal)
      const read = await state.pool.run<ReadChunksReply>({ type: 'read-chunks', source: fetched, ids, places })
      // Each chunk was compared with its id as it was read. A copy that is hurt is no copy to make another of.
      if (read.lost.length > 0) return this.leave(source.pack, `${read.lost.length} chunks can't be read`)
      const lengths = chunks.map(({ place }) => place.length)
      const stored = await this.session.put(read.bytes, lengths, metadata)
      if (Buffer.compare(stored, ids) !== 0) throw new Error('chunks changed on their way from pack to pack')
      return true
    } catch (error) {
      if (isLoss(error)) return this.leave(source.pack, error.message)
      throw error
    }
  }

  private leave(pack: string, detail: string): false {
    this.removal.state.ambient.log('warning', `${packName(pack)} is not written anew: ${detail}.`)
    return false
  }
}
