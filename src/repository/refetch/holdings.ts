import { buildIndex, type ChunkIndex, listPacks, readSegments, withoutIndex } from '../packs/chunk-index.ts'
import { ChunkReader } from '../packs/chunk-reader.ts'
import { ClaimTable } from '../packs/claim-table.ts'
import { Copies } from '../packs/copies.ts'
import { PackDirectories } from '../packs/pack-directories.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'

interface Seen {
  /** All that is there, packs that are marked for removal included: of those some chunks may be damaged. */
  listed: ChunkIndex
  /** As any segment or directory tells, packs that are gone included: how long their chunks were. */
  known: ChunkIndex
  reader: ChunkReader
}

/** What a repository that is being mended still holds, and what has been brought back to it. */
export class Holdings {
  private readonly sound: ChunkIndex
  private readonly signal: AbortSignal
  private readonly state: RepositoryState
  private readonly directories: PackDirectories
  private seen: Seen
  /** Brought back, or read from a marked pack, in this run. */
  private readonly fetched = ClaimTable.create()
  private readonly lost = ClaimTable.create()

  /** `sound`: what a writer may reuse. */
  static async load(state: RepositoryState, sound: ChunkIndex, signal: AbortSignal): Promise<Holdings> {
    const directories = new PackDirectories(state, { signal, unreadable: () => undefined })
    return new Holdings(state, sound, directories, await look(state, directories, signal), signal)
  }

  private constructor(
    state: RepositoryState,
    sound: ChunkIndex,
    directories: PackDirectories,
    seen: Seen,
    signal: AbortSignal,
  ) {
    this.state = state
    this.sound = sound
    this.directories = directories
    this.seen = seen
    this.signal = signal
  }

  /** What was brought back and is durable by now can be read as well. */
  async refresh(): Promise<void> {
    const { reader } = this.seen
    this.seen = await look(this.state, this.directories, this.signal)
    reader.close()
  }

  /** One verified chunk of what is there. Rejects with `repository-damaged` or `storage-not-found`. */
  read = (id: Uint8Array): Promise<Buffer> => this.seen.reader.read(id)

  /** Whether a chunk must be brought back. What only a marked pack holds is read to find out. */
  async isLost(id: Uint8Array): Promise<boolean> {
    if (this.sound.has(id) || this.fetched.has(id)) return false
    if (this.lost.has(id)) return true
    if (this.seen.listed.has(id) && (await this.isReadable(id))) {
      this.fetched.claim(id)
      return false
    }
    this.lost.claim(id)
    return true
  }

  /** Looked for in the pack itself, sound as it may seem: for what is needed to find all else. */
  async isUnreadable(id: Uint8Array): Promise<boolean> {
    if (this.fetched.has(id)) return false
    return (await this.isLost(id)) || !(await this.isReadable(id))
  }

  lengthOf(id: Uint8Array): number | null {
    return this.sound.locate(id)?.length ?? this.seen.known.locate(id)?.length ?? null
  }

  hasBack(id: Uint8Array): void {
    this.fetched.claim(id)
  }

  close(): void {
    this.seen.reader.close()
  }

  private async isReadable(id: Uint8Array): Promise<boolean> {
    try {
      await this.read(id)
      return true
    } catch (error) {
      if (!isLoss(error)) throw error
      return false
    }
  }
}

async function look(state: RepositoryState, directories: PackDirectories, signal: AbortSignal): Promise<Seen> {
  const indexed = await readSegments(state, { signal, unreadable: () => undefined })
  const sizes = await listPacks(state, signal)
  const packs = [...indexed, ...(await directories.read(withoutIndex(sizes, indexed)))]
  const listed = buildIndex(sizes, packs)
  const without = (names: ReadonlySet<string>) => new Map([...sizes].filter(([name]) => !names.has(name)))
  const copies = new Copies(listed, async (names) => buildIndex(without(names), packs))
  const known = buildIndex(new Map(packs.map((pack) => [pack.name.toString('hex'), pack.sizeBytes])), packs)
  return { listed, known, reader: new ChunkReader(state, copies, signal) }
}
