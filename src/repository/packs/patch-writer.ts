import { RegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry } from '../../model.ts'
import type { PackGroups } from '../compute/messages.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import type { Pending } from '../listing/entry-order.ts'
import { allChunkIds } from '../listing/listing-reader.ts'
import { describeStretch, stretchesOf } from '../materialize/restore-plan.ts'
import type { ContentQueue } from '../points/content-queue.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage, isLoss } from '../verify/damage.ts'
import type { ChunkIndex, ChunkPlace } from './chunk-index.ts'
import { fetchGroups } from './chunk-reader.ts'
import { PAGE_CHUNK_BYTES } from './chunker.ts'

/** Changed chunks that are gathered before they are read, in the order of their packs. */
const GATHERED_CHUNKS = 64
const NO_ID = Buffer.alloc(ID_BYTES)

export interface PatchContext {
  state: RepositoryState
  content: ContentQueue
  /** What the session may reuse (removal protocol, writer's step 3). */
  reusable: ChunkIndex
  /** One verified chunk of the base point, from any copy. */
  readChunk(id: Uint8Array): Promise<Buffer>
  signal: AbortSignal
}

interface Changed {
  /** Its place among the file's chunks. */
  index: number
  id: Buffer
  place: ChunkPlace
  length: number
  patches: { offset: number; bytes: Buffer }[]
}

/** Ids of a file that can be patched; null if its content is not in fixed chunks, or some of it may not be reused. */
export async function patchableIds(context: PatchContext, from: Entry): Promise<Buffer | null> {
  if (from.extents !== undefined || from.damaged !== undefined) return null
  const size = from.size ?? 0
  const ids = await allChunkIds(context.readChunk, from)
  if (ids.length !== Math.ceil(size / PAGE_CHUNK_BYTES) * ID_BYTES) return null
  for (let at = 0, bytes = size; at < ids.length; at += ID_BYTES, bytes -= PAGE_CHUNK_BYTES)
    if (context.reusable.locate(ids.subarray(at, at + ID_BYTES))?.length !== Math.min(PAGE_CHUNK_BYTES, bytes))
      return null
  return ids
}

/**
 * Writes a file of pages as another one with some of its bytes replaced. Chunks that no change touches keep their ids
 * and are not read; of the others the old bytes are read and the changes laid over them, in the compute threads. Bytes
 * beyond the old file that no change covers are zeros.
 */
export class PatchWriter {
  private readonly context: PatchContext
  private readonly entry: Entry
  private readonly pending: Pending
  private readonly old: Buffer
  private readonly oldBytes: number
  private readonly size: number
  /** Ids of all chunks of the file; filled in as they become known. */
  private readonly ids: Buffer
  private readonly waiting: Promise<void>[] = []
  private gathered: Changed[] = []
  private chunk = 0
  private patches: { offset: number; bytes: Buffer }[] = []
  private position = 0

  /** `old`: of `patchableIds`. */
  constructor(context: PatchContext, entry: Entry, from: Entry, old: Buffer, pending: Pending) {
    this.context = context
    this.entry = entry
    this.pending = pending
    this.old = old
    this.oldBytes = from.size ?? 0
    this.size = entry.size ?? 0
    this.ids = Buffer.alloc(Math.ceil(this.size / PAGE_CHUNK_BYTES) * ID_BYTES)
  }

  /** Ascending, not overlapping, within the size. Copies `bytes`. */
  async write(offset: number, bytes: Buffer): Promise<void> {
    if (offset < this.position || offset + bytes.length > this.size) throw this.contradicts(offset)
    this.position = offset + bytes.length
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done
      await this.advanceTo(Math.floor(at / PAGE_CHUNK_BYTES))
      const within = at % PAGE_CHUNK_BYTES
      const taken = Math.min(bytes.length - done, PAGE_CHUNK_BYTES - within)
      this.patches.push({ offset: within, bytes: Buffer.from(bytes.subarray(done, done + taken)) })
      done += taken
    }
  }

  /** Does not wait for the threads: that would leave them idle at each file's end. The session completes the entry, or fails. */
  async end(): Promise<void> {
    await this.advanceTo(this.ids.length / ID_BYTES)
    await this.send()
    this.context.content.watch(this.complete())
  }

  private async complete(): Promise<void> {
    // What is waited for may bring more to wait for: bytes of a lost copy are stored apart.
    for (let awaited = -1; awaited !== this.waiting.length; ) {
      awaited = this.waiting.length
      await Promise.all(this.waiting)
    }
    for (let at = 0; at < this.ids.length; at += ID_BYTES)
      if (NO_ID.equals(this.ids.subarray(at, at + ID_BYTES))) throw new Error(`chunk ${at / ID_BYTES} has no id`)
    await this.context.content.complete(this.pending, this.ids)
  }

  /** Decides what becomes of every chunk before `chunk`. */
  private async advanceTo(chunk: number): Promise<void> {
    for (; this.chunk < chunk; this.chunk++) {
      const { patches } = this
      this.patches = []
      await this.settle(this.chunk, patches)
    }
  }

  private async settle(index: number, patches: Changed['patches']): Promise<void> {
    const start = index * PAGE_CHUNK_BYTES
    const length = Math.min(PAGE_CHUNK_BYTES, this.size - start)
    const oldLength = Math.min(PAGE_CHUNK_BYTES, this.oldBytes - start)
    const replaced = patches.reduce((sum, { bytes }) => sum + bytes.length, 0)
    if (oldLength <= 0 || replaced === length) return this.store(index, apply(Buffer.alloc(length), patches))
    const id = this.old.subarray(index * ID_BYTES, (index + 1) * ID_BYTES)
    if (patches.length === 0 && oldLength === length) {
      id.copy(this.ids, index * ID_BYTES)
      return
    }
    // patchableIds has found it.
    const place = this.context.reusable.locate(id) as ChunkPlace
    this.gathered.push({ index, id, place, length, patches })
    if (this.gathered.length >= GATHERED_CHUNKS) await this.send()
  }

  private async store(index: number, bytes: Buffer): Promise<void> {
    const { content } = this.context
    await content.jobRoom()
    const own = new Uint8Array(bytes)
    const stored = content.storeParts(own.buffer, [{ length: own.length, chunking: 'pages' }]).then((ids) => {
      ids[0]?.copy(this.ids, index * ID_BYTES)
    })
    this.follow(stored)
  }

  /** Reads and patches what is gathered, one job for each stretch of a pack. */
  private async send(): Promise<void> {
    const gathered = this.gathered
    this.gathered = []
    for (const stretch of stretchesOf(gathered)) {
      await this.context.content.jobRoom()
      this.follow(this.patch(stretch))
    }
  }

  private async patch(stretch: readonly Changed[]): Promise<void> {
    const { state, content, signal } = this.context
    const { source, ids, places } = describeStretch(stretch)
    let fetched: PackGroups
    try {
      fetched = await fetchGroups(state, source, signal)
    } catch (error) {
      if (!isLoss(error)) throw error
      for (const changed of stretch) await this.patchHere(changed)
      return
    }
    const all = stretch.flatMap(({ patches }, chunk) => patches.map((patch) => ({ chunk, ...patch })))
    const buffer = new Uint8Array(all.reduce((sum, { bytes }) => sum + bytes.length, 0))
    let filled = 0
    for (const { bytes } of all) {
      buffer.set(bytes, filled)
      filled += bytes.length
    }
    const reply = await content.patch({
      source: fetched,
      ids,
      places,
      lengths: Uint32Array.from(stretch, ({ length }) => length),
      patches: Float64Array.from(all.flatMap(({ chunk, offset, bytes }) => [chunk, offset, bytes.length])),
      buffer: buffer.buffer,
    })
    const lost = new Set(reply.lost)
    for (const [number, changed] of stretch.entries()) {
      if (lost.has(number)) await this.patchHere(changed)
      else this.ids.set(reply.ids.subarray(number * ID_BYTES, (number + 1) * ID_BYTES), changed.index * ID_BYTES)
    }
  }

  /** This copy of the chunk is lost; there may be another. Rejects with `repository-damaged` if there is none. */
  private async patchHere({ index, id, length, patches }: Changed): Promise<void> {
    const old = await this.context.readChunk(id).catch((error: unknown) => {
      throw isDamage(error) ? this.isDamaged(error) : error
    })
    const bytes = Buffer.alloc(length)
    old.copy(bytes, 0, 0, length)
    await this.store(index, apply(bytes, patches))
  }

  /** A backup that takes it for sound would inherit the damage, and so would a full one: what is stored is not stored again. */
  private isDamaged(cause: RegainError): RegainError {
    return new RegainError(
      'repository-damaged',
      `${displayPath(this.entry.path)} has changed, and what the last point holds of it is damaged: ${cause.message} Nothing of this backup is kept.`,
      {
        cause,
        hint: `Set what is damaged aside with: regain repository repair ${this.context.state.service} --read-data. Then back up again: the file is read whole, which mends it.`,
      },
    )
  }

  /** `complete` awaits it. A failure fails the session at once, so that nobody goes on for nothing. */
  private follow(work: Promise<void>): void {
    this.waiting.push(work)
    this.context.content.watch(work)
  }

  private contradicts(offset: number): RegainError {
    const error = new RegainError(
      'source-unavailable',
      `A change of ${displayPath(this.entry.path)} at ${offset} lies outside the file or before the one before it. The backup was given up.`,
    )
    this.context.content.fail(error)
    return error
  }
}

function apply(bytes: Buffer, patches: Changed['patches']): Buffer {
  for (const { offset, bytes: patch } of patches) patch.copy(bytes, offset)
  return bytes
}
