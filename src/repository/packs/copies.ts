import type { ChunkIndex, ChunkPlace } from './chunk-index.ts'

/** Packs that may turn out to be gone or damaged before their chunks are only looked for in what is known already. */
const MAX_RELOADS = 32

/** Index and packs, read again, without the packs named; with `unindexed` also what packs say that no segment covers. */
export type ReloadIndex = (without: ReadonlySet<string>, unindexed: boolean) => Promise<ChunkIndex>

/**
 * Where a reader finds chunks. A repack may remove the pack that a reader was about to read: the removal protocol
 * guarantees that some copy exists, not a particular one, so index and packs are then read again, without that pack. The same
 * helps where a copy is damaged and there happens to be another. Only a chunk that is not found even so costs a look
 * into packs that no index segment covers: of a healthy repository those of a backup under way, else those of a segment
 * that was lost or damaged.
 */
export class Copies {
  private readonly index: ChunkIndex
  private readonly reload: ReloadIndex
  private readonly without = new Set<string>()
  private other: Promise<ChunkIndex> | null = null
  private unindexed = false
  private reloads = 0

  constructor(index: ChunkIndex, reload: ReloadIndex) {
    this.index = index
    this.reload = reload
  }

  /** As of the beginning. Null: in no pack then known, see `locateElsewhere`. */
  locate(id: Uint8Array): ChunkPlace | null {
    return this.index.locate(id)
  }

  /** A copy that is not in `pack` (hex), nor in any pack that was given here before. `pack` null: `locate` found none. */
  async locateElsewhere(id: Uint8Array, pack: string | null): Promise<ChunkPlace | null> {
    const isNews = this.other === null || (pack !== null && !this.without.has(pack))
    if (pack !== null) this.without.add(pack)
    if (isNews && this.reloads < MAX_RELOADS) this.readAgain()
    const place = await this.lookUp(id)
    if (place) return place
    if (!this.unindexed) {
      this.unindexed = true
      this.readAgain()
    }
    return this.lookUp(id)
  }

  private readAgain(): void {
    this.reloads++
    const other = this.reload(new Set(this.without), this.unindexed)
    this.other = other
    // Whoever asks hears of the failure; the next one tries again.
    other.catch(() => {
      if (this.other === other) this.other = null
    })
  }

  private async lookUp(id: Uint8Array): Promise<ChunkPlace | null> {
    const place = (await this.other)?.locate(id) ?? null
    return place && !this.without.has(place.knownPack.name) ? place : null
  }
}
