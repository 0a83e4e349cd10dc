import { RegainError } from '../../errors.ts'
import type { Entry, Point } from '../../model.ts'
import type { OpenPoint } from '../api.ts'
import {
  chunkIds,
  dataRanges,
  findEntry,
  type ListingPart,
  readLeaves,
  readListing,
} from '../listing/listing-reader.ts'
import { ContentCursor } from '../materialize/content-cursor.ts'
import { readContents } from '../materialize/contents.ts'
import { materialize } from '../materialize/materialize.ts'
import { measurePoint } from '../materialize/measure-point.ts'
import { type ChunkIndex, loadChunkIndex } from '../packs/chunk-index.ts'
import { ChunkReader } from '../packs/chunk-reader.ts'
import { Copies, type ReloadIndex } from '../packs/copies.ts'
import { PackDirectories } from '../packs/pack-directories.ts'
import type { RepositoryState } from '../repository-state.ts'
import { readCommit } from './commits.ts'
import { pinPoint } from './pins.ts'

const MAX_READ_FILE_BYTES = 16 * 1024 * 1024
/** Neighbours mostly lie in one group of a pack, so this is a read or two. */
const LISTING_PAGES_AHEAD = 4
const ZEROS = Buffer.alloc(1024 * 1024)

/** An open point as the engine's own parts use it. */
export interface OpenedPoint extends OpenPoint {
  /** All entries in order, many at a time. */
  leaves(part?: ListingPart): AsyncGenerator<Entry[], void, undefined>
  /** One verified chunk. */
  readChunk(id: Uint8Array): Promise<Buffer>
}

/**
 * Pins the point, then loads the index. What a damaged or lost index segment named is found in
 * the packs themselves. `loaded`: an index that was read after the point was committed and leaves no pack out.
 */
export async function openPointReader(
  state: RepositoryState,
  id: string,
  signal: AbortSignal,
  loaded?: ChunkIndex,
): Promise<OpenedPoint> {
  const unpin = await pinOrReadOnly(state, id, signal)
  try {
    const commit = await readCommit(state, id, signal)
    if (!commit) throw new RegainError('point-not-found', `There is no recovery point ${id}.`)
    const unreadable = (segment: string, error: RegainError) =>
      state.ambient.log('error', `${error.message} Packs that it covers are searched themselves where needed.`, {
        object: segment,
      })
    const index = loaded ?? (await loadChunkIndex(state, { signal, unreadable, fromCache: true }))
    const directories = new PackDirectories(state, { signal })
    const reading = { signal, unreadable: () => undefined, fromCache: true }
    const reload: ReloadIndex = async (excluded, unindexed) => {
      if (!unindexed) return loadChunkIndex(state, { ...reading, excluded })
      const again = await loadChunkIndex(state, { ...reading, excluded, unindexed: directories })
      tellOfUnindexed(state, directories)
      return again
    }
    return new PointReader(state, commit.point, new Copies(index, reload), unpin, signal)
  } catch (error) {
    await unpin()
    throw error
  }
}

/** Once per point that is opened. */
function tellOfUnindexed(state: RepositoryState, directories: PackDirectories): void {
  const packs = directories.takeNews()
  if (packs === 0) return
  state.ambient.log(
    'error',
    `A chunk that is needed is in no readable part of the index, so ${packs} packs that the index does not cover were searched. That takes time and loses nothing. Mend the index with: regain repository repair ${state.service}`,
  )
}

/** A restore must work from a read-only copy of a repository, where nothing removes data anyway. */
async function pinOrReadOnly(state: RepositoryState, id: string, signal: AbortSignal): Promise<() => Promise<void>> {
  try {
    return await pinPoint(state, id, signal)
  } catch (error) {
    const readOnly = error instanceof RegainError && (error.code === 'storage-denied' || error.code === 'storage-full')
    if (!readOnly) throw error
    state.ambient.log(
      'warning',
      'The repository can not be written, so the point is not protected from removal while it is read.',
    )
    return async () => undefined
  }
}

class PointReader implements OpenedPoint {
  readonly point: Point
  private readonly state: RepositoryState
  private readonly chunks: ChunkReader
  private readonly copies: Copies
  private readonly unpin: () => Promise<void>
  private readonly signal: AbortSignal

  constructor(state: RepositoryState, point: Point, copies: Copies, unpin: () => Promise<void>, signal: AbortSignal) {
    this.state = state
    this.point = point
    this.copies = copies
    this.signal = signal
    this.chunks = new ChunkReader(state, copies, signal, { fromCache: true })
    this.unpin = unpin
  }

  readChunk = (id: Uint8Array) => this.chunks.read(id)

  entries(wants?: ListingPart['wants']): AsyncGenerator<Entry, void, undefined> {
    return readListing(this.readChunk, this.point.listing, LISTING_PAGES_AHEAD, { wants })
  }

  leaves(part: ListingPart = {}): AsyncGenerator<Entry[], void, undefined> {
    return readLeaves(this.readChunk, this.point.listing, LISTING_PAGES_AHEAD, part)
  }

  entry(path: string): Promise<Entry | null> {
    return findEntry(this.readChunk, this.point.listing, path)
  }

  async readFile(path: string): Promise<Buffer> {
    const entry = await this.entry(path)
    if (entry?.type !== 'file')
      throw new RegainError('point-not-found', `The point has no file ${JSON.stringify(path)}.`, {
        hint: 'See what it holds with: regain ls',
      })
    if ((entry.size ?? 0) > MAX_READ_FILE_BYTES)
      throw new RegainError('usage', `${JSON.stringify(path)} has ${entry.size} bytes: too large to be held in memory.`)
    const pieces: Buffer[] = []
    for await (const piece of this.stream(entry)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  async *stream(entry: Entry): AsyncGenerator<Buffer, void, undefined> {
    const source = entry.hardLink === undefined ? entry : await this.entry(entry.hardLink)
    if (!source)
      throw new RegainError(
        'repository-damaged',
        `The listing has no ${JSON.stringify(entry.hardLink)}, which a hard link names.`,
      )
    const ids = chunkIds(this.readChunk, source)
    let rest: Buffer = ZEROS.subarray(0, 0)
    let position = 0
    for (const [offset, length] of dataRanges(source)) {
      yield* zeros(offset - position)
      for (let left = length; left > 0; ) {
        if (rest.length === 0) rest = await this.nextChunk(ids, source)
        const piece = rest.subarray(0, left)
        rest = rest.subarray(piece.length)
        left -= piece.length
        yield piece
      }
      position = offset + length
    }
    yield* zeros((source.size ?? 0) - position)
    const extra = await ids.next()
    if (rest.length > 0 || !extra.done) throw contradicts(source)
  }

  cursor(entry: Entry): ContentCursor {
    const lengthOf = (id: Uint8Array) => this.copies.locate(id)?.length ?? null
    return new ContentCursor({ lengthOf, readChunk: this.readChunk }, entry)
  }

  contents: OpenPoint['contents'] = (entries, wants) =>
    readContents(
      { state: this.state, copies: this.copies, readChunk: this.readChunk, signal: this.signal },
      entries,
      wants,
    )

  measure: OpenPoint['measure'] = () => measurePoint(this.entries(), this.copies, this.readChunk)

  materialize: OpenPoint['materialize'] = (directory, options) =>
    materialize(
      this.state,
      this.copies,
      { leaves: (part) => this.leaves(part), readChunk: this.readChunk },
      directory,
      options,
    )

  async close(): Promise<void> {
    this.chunks.close()
    await this.unpin()
  }

  private async nextChunk(ids: AsyncGenerator<Buffer, void, undefined>, entry: Entry): Promise<Buffer> {
    const next = await ids.next()
    if (next.done) throw contradicts(entry)
    return this.readChunk(next.value)
  }
}

function* zeros(length: number): Generator<Buffer, void, undefined> {
  for (let left = length; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length))
}

function contradicts(entry: Entry): RegainError {
  return new RegainError(
    'repository-damaged',
    `The size of ${JSON.stringify(entry.path)} and its chunks contradict each other.`,
  )
}
