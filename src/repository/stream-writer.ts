import { RegainError } from '../errors.ts'
import { displayPath } from '../filesystem/names.ts'
import type { Entry } from '../model.ts'
import { Chunker, FILE_CHUNKS, gearTable, PAGE_CHUNK_BYTES } from './chunker.ts'
import type { Chunking } from './compute/messages.ts'
import type { ContentQueue } from './content-queue.ts'
import type { Pending } from './entry-order.ts'
import type { DomainKeys } from './format/domain-keys.ts'
import { contentBytes } from './listing-reader.ts'

/** Streams are collected in buffers of this size, which holds the largest chunk; small ones share one. */
const BUFFER_BYTES = 4 * 1024 * 1024
const BUFFERS_KEPT = 8
/** Entries may not wait for a buffer that thousands of tiny streams would be needed to fill. */
const MAX_PARTS = 1024

interface Part {
  stream: OpenStream
  /** Its place among the stream's parts. */
  index: number
  length: number
  chunking: Chunking
}

/** Gathers bytes that sources push, one stream after the other, into jobs for the threads. */
export class StreamWriter {
  private readonly content: ContentQueue
  private readonly spare: SharedArrayBuffer[] = []
  private buffer: Uint8Array | null = null
  private filled = 0
  private parts: Part[] = []
  private current: OpenStream | null = null
  private readonly chunker: Chunker

  constructor(content: ContentQueue, keys: DomainKeys) {
    this.content = content
    this.chunker = new Chunker(gearTable(keys.chunker), FILE_CHUNKS)
  }

  async open(
    entry: Entry,
    chunking: 'pages' | 'content',
  ): Promise<{ write(bytes: Buffer): Promise<void>; end(): Promise<void> }> {
    if (this.current) throw new Error('a stream is open already')
    if (this.parts.length >= MAX_PARTS) await this.flush()
    const stream = new OpenStream(entry, chunking, this.content.addWaiting(entry))
    this.current = stream
    return {
      write: (bytes) => this.write(stream, bytes),
      end: () => this.end(stream),
    }
  }

  /** Sends what is left when no more streams come. */
  async finish(): Promise<void> {
    if (this.current) throw new Error(`the stream of ${displayPath(this.current.entry.path)} was not ended`)
    await this.flush()
  }

  /** Sends what is collected. */
  async flush(): Promise<void> {
    if (this.parts.length === 0 || !this.buffer) return
    await this.content.jobRoom()
    const { parts, buffer } = this
    this.parts = []
    this.buffer = null
    this.filled = 0
    this.content.watch(this.store(buffer.buffer as SharedArrayBuffer, parts))
  }

  private async write(stream: OpenStream, bytes: Buffer): Promise<void> {
    if (stream.bytes + bytes.length > stream.announcedBytes) throw this.contradicts(stream, bytes.length)
    for (let at = 0; at < bytes.length; ) {
      const space = this.space(stream)
      if (space === 0) {
        await this.makeRoom(stream)
        continue
      }
      const taken = Math.min(space, bytes.length - at)
      this.take(stream, bytes.subarray(at, at + taken))
      at += taken
    }
  }

  /**
   * Sends the full buffer. Where the open stream is cut by content, what is behind its last boundary goes on in the next
   * buffer: else a chunk would end where the buffer does, at another place each time, and no later point would find it
   * again. A thread that cuts what was sent finds these very boundaries: they depend on where its part begins, and on bytes.
   */
  private async makeRoom(stream: OpenStream): Promise<void> {
    const part = this.parts.at(-1)
    if (stream.chunking !== 'content' || part?.stream !== stream) return this.flush()
    const undecided = this.takeUndecided(part)
    await this.flush()
    this.space(stream)
    if (undecided.length > 0) this.take(stream, undecided)
  }

  /** Removes from the end of the last part what may belong to a chunk that goes on, and gives a copy of it. */
  private takeUndecided(part: Part): Buffer {
    const buffer = this.buffer as Uint8Array
    let decided = this.filled - part.length
    let end = this.chunker.cut(buffer, decided, this.filled, true)
    while (end !== 0) {
      decided = end
      end = this.chunker.cut(buffer, decided, this.filled, true)
    }
    const undecided = Buffer.from(buffer.subarray(decided, this.filled))
    this.filled = decided
    part.length -= undecided.length
    part.stream.bytes -= undecided.length
    if (part.length === 0) {
      this.parts.pop()
      part.stream.parts--
    }
    return undecided
  }

  private async end(stream: OpenStream): Promise<void> {
    this.current = null
    if (stream.bytes !== stream.announcedBytes) throw this.contradicts(stream, 0)
    stream.ended = true
    await this.settle(stream)
  }

  /** The entry can never be complete, so the whole backup fails, also for a caller who goes on. */
  private contradicts(stream: OpenStream, moreBytes: number): RegainError {
    const bytes = stream.bytes + moreBytes
    const error = new RegainError(
      'source-unavailable',
      `${displayPath(stream.entry.path)} had ${moreBytes > 0 ? 'at least ' : ''}${bytes} bytes where ${stream.announcedBytes} were announced. The backup was given up.`,
    )
    this.current = null
    this.content.fail(error)
    return error
  }

  /** Room left for this stream: a page-aligned stream is only ever cut at a chunk's boundary. */
  private space(stream: OpenStream): number {
    this.buffer ??= new Uint8Array(this.spare.pop() ?? new SharedArrayBuffer(BUFFER_BYTES))
    const free = BUFFER_BYTES - this.filled
    if (stream.chunking !== 'pages') return free
    const intoChunk = stream.bytes % PAGE_CHUNK_BYTES
    const wholeChunks = Math.floor((free + intoChunk) / PAGE_CHUNK_BYTES) * PAGE_CHUNK_BYTES
    const left = stream.announcedBytes - stream.bytes
    return left <= free ? left : Math.max(0, wholeChunks - intoChunk)
  }

  private take(stream: OpenStream, bytes: Buffer): void {
    ;(this.buffer as Uint8Array).set(bytes, this.filled)
    this.filled += bytes.length
    stream.bytes += bytes.length
    const last = this.parts.at(-1)
    if (last?.stream === stream) last.length += bytes.length
    else this.parts.push({ stream, index: stream.parts++, length: bytes.length, chunking: stream.chunking })
  }

  private async store(buffer: SharedArrayBuffer, parts: Part[]): Promise<void> {
    const ids = await this.content.storeParts(
      buffer,
      parts.map(({ length, chunking }) => ({ length, chunking })),
    )
    if (this.spare.length < BUFFERS_KEPT) this.spare.push(buffer)
    for (const [index, part] of parts.entries()) {
      part.stream.ids[part.index] = ids[index] as Buffer
      part.stream.stored++
      await this.settle(part.stream)
    }
  }

  /** Completes the entry once the stream has ended and all its parts are stored. */
  private async settle(stream: OpenStream): Promise<void> {
    if (!stream.ended || stream.stored < stream.parts || stream.completed) return
    stream.completed = true
    await this.content.complete(stream.pending, Buffer.concat(stream.ids))
  }
}

class OpenStream {
  readonly entry: Entry
  readonly chunking: Chunking
  readonly pending: Pending
  readonly ids: Buffer[] = []
  readonly announcedBytes: number
  parts = 0
  stored = 0
  bytes = 0
  ended = false
  completed = false

  constructor(entry: Entry, chunking: Chunking, pending: Pending) {
    this.entry = entry
    this.announcedBytes = contentBytes(entry)
    this.chunking = chunking
    this.pending = pending
  }
}
