import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry } from '../../model.ts'
import type { PackGroups, ReadChunksReply } from '../compute/messages.ts'
import { chunkIds } from '../listing/listing-reader.ts'
import type { ChunkPlace } from '../packs/chunk-index.ts'
import { fetchGroups, ownedBuffers } from '../packs/chunk-reader.ts'
import type { Copies } from '../packs/copies.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { describeStretch, stretchesOf } from './restore-plan.ts'

/** Content that is planned, read and held at once; while one window is given out, the next one is read. */
const WINDOW_BYTES = 24 * 1024 * 1024
const WINDOW_ENTRIES = 8192

interface Reading {
  state: RepositoryState
  copies: Copies
  /** One verified chunk, from any copy. */
  readChunk(id: Uint8Array): Promise<Buffer>
  signal: AbortSignal
}

/** What a window gives out, in order: a chunk of an entry, or the entry's end. */
interface Item {
  entry: Entry
  id: Buffer | null
}

/** See OpenPoint.contents. Rejects with `repository-damaged`, naming the file, if no copy of a chunk is sound. */
export async function* readContents(
  reading: Reading,
  entries: AsyncIterable<Entry>,
  wants: (entry: Entry) => boolean,
): AsyncGenerator<{ entry: Entry; bytes: Buffer | null }, void, undefined> {
  let filling = new Window(reading)
  let started: Window | null = null
  for await (const item of itemsOf(reading, entries, wants)) {
    filling.add(item)
    if (!filling.isFull) continue
    filling.start()
    if (started) yield* started.give()
    started = filling
    filling = new Window(reading)
  }
  filling.start()
  if (started) yield* started.give()
  yield* filling.give()
}

async function* itemsOf(
  reading: Reading,
  entries: AsyncIterable<Entry>,
  wants: (entry: Entry) => boolean,
): AsyncGenerator<Item, void, undefined> {
  for await (const entry of entries) {
    throwIfInterrupted(reading.signal)
    if (entry.hardLink === undefined && wants(entry))
      for await (const id of chunkIds(reading.readChunk, entry)) yield { entry, id }
    yield { entry, id: null }
  }
}

class Window {
  private readonly reading: Reading
  private readonly items: Item[] = []
  /** By id in hex: wanted however often, read once. Null: in no pack known so far. */
  private readonly places = new Map<string, ChunkPlace | null>()
  private bytes = 0
  private entries = 0
  private reads: Promise<Map<string, Buffer>>[] = []

  constructor(reading: Reading) {
    this.reading = reading
  }

  get isFull(): boolean {
    return this.bytes >= WINDOW_BYTES || this.entries >= WINDOW_ENTRIES
  }

  add(item: Item): void {
    this.items.push(item)
    if (item.id === null) {
      this.entries++
      return
    }
    const key = item.id.toString('hex')
    if (!this.places.has(key)) this.places.set(key, this.reading.copies.locate(item.id))
    // A chunk counts as often as it is wanted: a long file of one repeated chunk is no endless window.
    this.bytes += this.places.get(key)?.length ?? 0
  }

  start(): void {
    const chunks: { id: Buffer; place: ChunkPlace }[] = []
    for (const [key, place] of this.places) if (place) chunks.push({ id: Buffer.from(key, 'hex'), place })
    this.reads = stretchesOf(chunks).map((stretch) => this.read(stretch))
    // Awaited by `give`, which may never be reached when an earlier window fails.
    for (const read of this.reads) read.catch(() => undefined)
  }

  async *give(): AsyncGenerator<{ entry: Entry; bytes: Buffer | null }, void, undefined> {
    const chunks = new Map<string, Buffer>()
    for (const read of await Promise.all(this.reads)) for (const [key, bytes] of read) chunks.set(key, bytes)
    for (const { entry, id } of this.items) {
      throwIfInterrupted(this.reading.signal)
      const bytes = id === null ? null : (chunks.get(id.toString('hex')) ?? (await this.readAlone(id, entry)))
      yield { entry, bytes }
    }
  }

  /** What is lost in this copy is not in the result. */
  private async read(stretch: readonly { id: Buffer; place: ChunkPlace }[]): Promise<Map<string, Buffer>> {
    const { state, signal } = this.reading
    const { source, ids, places } = describeStretch(stretch)
    let fetched: PackGroups
    try {
      fetched = await fetchGroups(state, source, signal)
    } catch (error) {
      // The pack is gone: each of its chunks is looked for elsewhere.
      if (isLoss(error)) return new Map()
      throw error
    }
    const job = { type: 'read-chunks', source: fetched, ids, places } as const
    const reply = await state.pool.run<ReadChunksReply>(job, ownedBuffers(fetched))
    const lost = new Set(reply.lost)
    const chunks = new Map<string, Buffer>()
    let at = 0
    for (const [number, { id, place }] of stretch.entries()) {
      if (!lost.has(number)) chunks.set(id.toString('hex'), Buffer.from(reply.bytes, at, place.length))
      at += place.length
    }
    return chunks
  }

  private async readAlone(id: Buffer, entry: Entry): Promise<Buffer> {
    try {
      return await this.reading.readChunk(id)
    } catch (error) {
      if (!(error instanceof RegainError) || error.code !== 'repository-damaged') throw error
      throw new RegainError('repository-damaged', `${displayPath(entry.path)} is lost in part: ${error.message}`, {
        cause: error,
      })
    }
  }
}
