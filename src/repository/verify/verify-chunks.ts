import type { IndexedPack } from '../format/index-segment.ts'
import { packName } from '../format/object-names.ts'
import { decodeDirectory } from '../format/pack.ts'
import { buildIndex, type ChunkIndex, withoutIndex } from '../packs/chunk-index.ts'
import { PackDirectories } from '../packs/pack-directories.ts'
import type { RepositoryState } from '../repository-state.ts'

/** Packs that fail, and what is lost with them. */
export class BadPacks {
  readonly names = new Set<string>()
  /** Chunk id (hex) to the bad pack that held it. */
  private readonly held = new Map<string, string>()
  /** Chunks (hex) of bad packs that can't be read; the others of a bad pack still can. */
  private readonly lost = new Set<string>()

  addIndexed(pack: string, directory: Buffer, allLost: boolean): void {
    for (const group of decodeDirectory(directory, packName(pack)))
      for (const chunk of group.chunks) {
        const id = chunk.id.toString('hex')
        this.held.set(id, pack)
        if (allLost) this.lost.add(id)
      }
  }

  addLost(ids: Uint8Array): void {
    for (let at = 0; at < ids.length; at += 32) this.lost.add(Buffer.from(ids.subarray(at, at + 32)).toString('hex'))
  }

  /** The bad pack a needed chunk was lost with; null if it was in none, 'readable' if it can still be read from one. */
  lookUp(id: Buffer): string | null | 'readable' {
    const hex = id.toString('hex')
    const pack = this.held.get(hex)
    if (pack === undefined) return null
    return this.lost.has(hex) ? pack : 'readable'
  }
}

/**
 * Where verification finds chunks. What packs say that no readable segment covers is read when a chunk is in no sound pack
 * that one does: a backup under way leaves such packs too, and no point needs them.
 */
export class KnownChunks {
  /** In sound packs. */
  sound: ChunkIndex
  /** In all that are there: a listing page may be readable in a pack that is hurt elsewhere. */
  readable: ChunkIndex
  /** Packs (hex) that points need and that no readable segment covers. */
  readonly unindexed = new Set<string>()
  /** Packs that neither a segment nor their own directory describes. */
  readonly undescribed: { pack: string; detail: string }[] = []
  private readonly directories: PackDirectories
  private readonly indexed: readonly IndexedPack[]
  private readonly listed: ReadonlyMap<string, number>
  private readonly bad: BadPacks
  private uncovered: ReadonlySet<string> | null = null

  constructor(
    state: RepositoryState,
    indexed: readonly IndexedPack[],
    listed: ReadonlyMap<string, number>,
    bad: BadPacks,
    signal: AbortSignal,
  ) {
    this.directories = new PackDirectories(state, {
      signal,
      unreadable: (pack, { message }) => this.undescribed.push({ pack, detail: message }),
    })
    this.indexed = indexed
    this.listed = listed
    this.bad = bad
    this.readable = buildIndex(listed, indexed)
    this.sound = this.withoutBad(indexed)
  }

  /** 'readable' as well if only a part of its pack is hurt; else the pack (hex) that it is lost with, or null: it is in none. */
  async find(id: Buffer): Promise<'readable' | { lostWith: string | null }> {
    if (this.uncovered === null) {
      if (this.sound.has(id)) return 'readable'
      this.uncovered = await this.readUncovered()
    }
    const place = this.sound.locate(id)
    if (place && this.uncovered.has(place.knownPack.name)) this.unindexed.add(place.knownPack.name)
    if (place) return 'readable'
    const where = this.bad.lookUp(id)
    return where === 'readable' ? where : { lostWith: where }
  }

  /** Packs that no readable segment names, by their own directories; each is read once. */
  describeUncovered(): Promise<IndexedPack[]> {
    return this.directories.read(withoutIndex(this.listed, this.indexed))
  }

  private async readUncovered(): Promise<ReadonlySet<string>> {
    const packs = await this.describeUncovered()
    const names = packs.map((pack) => pack.name.toString('hex'))
    packs.forEach((pack, index) => {
      const name = names[index] as string
      if (this.bad.names.has(name)) this.bad.addIndexed(name, pack.directory, false)
    })
    const all = [...this.indexed, ...packs]
    this.readable = buildIndex(this.listed, all)
    this.sound = this.withoutBad(all)
    return new Set(names)
  }

  private withoutBad(packs: readonly IndexedPack[]): ChunkIndex {
    if (this.bad.names.size === 0) return this.readable
    return buildIndex(new Map([...this.listed].filter(([name]) => !this.bad.names.has(name))), packs)
  }
}
