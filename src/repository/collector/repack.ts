import { throwIfInterrupted } from '../../errors.ts'
import type { PlannedPack } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import type { ChunkPlace } from '../chunk-index.ts'
import { fetchGroups } from '../chunk-reader.ts'
import { ChunkTable } from '../chunk-table.ts'
import { tidy } from '../cleanup.ts'
import type { ReadChunksReply, StoredBytes } from '../compute/messages.ts'
import { isLoss } from '../damage.ts'
import { packName } from '../format/object-names.ts'
import { PackStore } from '../pack-store.ts'
import { describeStretch, stretchesOf } from '../restore-plan.ts'
import { type Catalog, type CatalogPack, groupsOf } from './catalog.ts'
import { readNewest } from './generation.ts'
import type { Marks } from './mark.ts'
import type { Removal } from './remove-packs.ts'
import { survey } from './survey.ts'

/** zstd level, as of new data: docs/decisions/0003. */
const LEVEL = 2
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
  private readonly session: number
  private readonly store: PackStore
  private failure: { error: unknown } | null = null

  constructor(removal: Removal, catalog: Catalog, marks: Marks, fromReserve: boolean) {
    this.removal = removal
    this.catalog = catalog
    this.marks = marks
    this.session = removal.state.pool.newSession()
    const failed = (error: unknown) => {
      this.failure ??= { error }
    }
    this.store = new PackStore(removal.state, removal.signal, failed, { fromReserve })
  }

  async run(packs: readonly CatalogPack[]): Promise<{ packs: string[]; bytesWritten: number }> {
    const { state, progress } = this.removal
    const { pool } = state
    const stopListening = pool.onPack(this.session, (pack, giveBack) => this.store.take(pack, giveBack))
    try {
      const base = ChunkTable.create(0).share()
      const claims = ChunkTable.create(0).share()
      pool.begin({ type: 'begin-session', session: this.session, base, claims, level: LEVEL, pace: null })
      const done: string[] = []
      for (const pack of packs) {
        progress({
          phase: 'repacking',
          bytesDone: this.store.storedBytes,
          filesDone: done.length,
          filesTotal: packs.length,
        })
        if (await this.copy(pack)) done.push(pack.name)
      }
      await pool.flush({ type: 'flush', session: this.session })
      await this.store.finish()
      this.throwIfFailed()
      return { packs: done, bytesWritten: this.store.storedBytes }
    } catch (error) {
      pool.drop(this.session)
      // What is stored already is indexed, if that can be: the next prune then finds two copies and removes one.
      await tidy((signal) => this.store.salvage(signal)).catch(() => undefined)
      throw error
    } finally {
      stopListening()
      await pool.end({ type: 'end-session', session: this.session })
    }
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
    this.throwIfFailed()
    const { source, ids, places } = describeStretch(chunks)
    try {
      const fetched = await fetchGroups(state, source, signal)
      const read = await state.pool.run<ReadChunksReply>({ type: 'read-chunks', source: fetched, ids, places })
      // Each chunk was compared with its id as it was read. A copy that is hurt is no copy to make another of.
      if (read.lost.length > 0) return this.leave(source.pack, `${read.lost.length} chunks can't be read`)
      const parts = chunks.map(({ place }) => ({ length: place.length, chunking: 'one' as const }))
      const job = { type: 'bytes', session: this.session, buffer: read.bytes, parts, metadata } as const
      const stored = await state.pool.run<StoredBytes>(job, [read.bytes])
      if (Buffer.compare(stored.ids, ids) !== 0) throw new Error('chunks changed on their way from pack to pack')
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

  private throwIfFailed(): void {
    if (this.failure) throw this.failure.error
  }
}
