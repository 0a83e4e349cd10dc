import { buildIndex, type ChunkIndex, listPacks, readSegments, withoutIndex } from '../chunk-index.ts'
import { ChunkReader } from '../chunk-reader.ts'
import { ChunkTable } from '../chunk-table.ts'
import { Copies } from '../copies.ts'
import { isLoss } from '../damage.ts'
import type { IndexedPack } from '../format/index-segment.ts'
import { PackDirectories } from '../pack-directories.ts'
import type { RepositoryState } from '../repository-state.ts'

const NOWHERE = { pack: 0, group: 0, offset: 0, length: 0 }

/** What a repository that is being mended still holds, and what has been brought back to it. */
export class Holdings {
  /** One verified chunk of what is there. Rejects with `repository-damaged` or `storage-not-found`. */
  readonly read: (id: Uint8Array) => Promise<Buffer>
  private readonly sound: ChunkIndex
  /** All that is there, packs that are marked for removal included: of those some chunks may be damaged. */
  private readonly listed: ChunkIndex
  /** As any segment or directory tells, packs that are gone included: how long their chunks were. */
  private readonly known: ChunkIndex
  private readonly reader: ChunkReader
  /** Brought back, or read from a marked pack, in this run. */
  private readonly fetched = ChunkTable.create(0)
  private readonly lost = ChunkTable.create(0)

  /** `sound`: what a writer may reuse. */
  static async load(state: RepositoryState, sound: ChunkIndex, signal: AbortSignal): Promise<Holdings> {
    const indexed = await readSegments(state, { signal, unreadable: () => undefined })
    const sizes = await listPacks(state, signal)
    const directories = new PackDirectories(state, { signal, unreadable: () => undefined })
    const all = [...indexed, ...(await directories.read(withoutIndex(sizes, indexed)))]
    return new Holdings(state, sound, sizes, all, signal)
  }

  private constructor(
    state: RepositoryState,
    sound: ChunkIndex,
    sizes: ReadonlyMap<string, number>,
    packs: readonly IndexedPack[],
    signal: AbortSignal,
  ) {
    this.sound = sound
    this.listed = buildIndex(sizes, packs)
    this.known = buildIndex(new Map(packs.map((pack) => [pack.name.toString('hex'), pack.sizeBytes])), packs)
    const without = (names: ReadonlySet<string>) => new Map([...sizes].filter(([name]) => !names.has(name)))
    const copies = new Copies(this.listed, async (names) => buildIndex(without(names), packs))
    this.reader = new ChunkReader(state, copies, signal)
    this.read = (id) => this.reader.read(id)
  }

  /** Whether a chunk must be brought back. What only a marked pack holds is read to find out. */
  async isLost(id: Uint8Array): Promise<boolean> {
    if (this.sound.has(id) || this.fetched.has(id)) return false
    if (this.lost.has(id)) return true
    if (this.listed.has(id) && (await this.isReadable(id))) {
      this.fetched.add(id, NOWHERE)
      return false
    }
    this.lost.add(id, NOWHERE)
    return true
  }

  /** Looked for in the pack itself, sound as it may seem: for what is needed to find all else. */
  async isUnreadable(id: Uint8Array): Promise<boolean> {
    if (this.fetched.has(id)) return false
    return (await this.isLost(id)) || !(await this.isReadable(id))
  }

  lengthOf(id: Uint8Array): number | null {
    return this.sound.locate(id)?.length ?? this.known.locate(id)?.length ?? null
  }

  hasBack(id: Uint8Array): void {
    this.fetched.add(id, NOWHERE)
  }

  close(): void {
    this.reader.close()
  }

  private async isReadable(id: Uint8Array): Promise<boolean> {
    try {
      await this.reader.read(id)
      return true
    } catch (error) {
      if (!isLoss(error)) throw error
      return false
    }
  }
}
