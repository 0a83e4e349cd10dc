import { RegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry } from '../../model.ts'
import type { Chunking } from '../compute/messages.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import type { Pending } from '../listing/entry-order.ts'
import { contentBytes } from '../listing/listing-reader.ts'
import type { ContentQueue } from '../points/content-queue.ts'
import { Chunker, DUMP_CHUNKS, FILE_CHUNKS, gearTable, PAGE_CHUNK_BYTES } from './chunker.ts'

/** Streams are collected in buffers of this size, which holds the largest chunk; small ones share one. */
const BUFFER_BYTES = 4 * 1024 * 1024
const BUFFERS_KEPT = 8
/** Each open one holds a buffer. */
const MAX_OPEN = 16
/** Entries may not wait for a buffer that thousands of tiny streams would be needed to fill. */
const MAX_PARTS = 1024

interface Part {
  stream: OpenStream
  /** Its place among the stream's parts. */
  index: number
  length: number
  chunking: Chunking
}

export type StreamChunking = Exclude<Chunking, 'one'>

/**
 * Gathers bytes that sources push into jobs for the threads. Each stream that is open beside others has a writer of its
 * own, which the next one takes over: small streams one after the other share buffers.
 */
export class StreamWriters {
  private readonly content: ContentQueue
  private readonly keys: DomainKeys
  private readonly spare: SharedArrayBuffer[] = []
  private readonly writers: StreamWriter[] = []

  constructor(content: ContentQueue, keys: DomainKeys) {
    this.content = content
    this.keys = keys
  }

  /** Calls must not overlap; what is opened may. */
  open(entry: Entry, chunking: StreamChunking): ReturnType<StreamWriter['open']> {
    let writer = this.writers.find(({ isOpen }) => !isOpen)
    if (writer === undefined) {
      if (this.writers.length === MAX_OPEN) throw new Error(`${MAX_OPEN} streams are open already`)
      writer = new StreamWriter(this.content, this.keys, this.spare)
      this.writers.push(writer)
    }
    return writer.open(entry, chunking)
  }

  /** Sends what ended streams have left behind. One that is open goes on by itself. */
  async flush(): Promise<void> {
    for (const writer of this.writers) if (!writer.isOpen) await writer.flush()
  }

  /** Sends what is left when no more streams come. */
  async finish(): Promise<void> {
    for (const writer of this.writers) await writer.finish()
  }
}

/** One stream after the other. */
class StreamWriter {
  private readonly content: ContentQueue
  private readonly spare: SharedArrayBuffer[]
  private buffer: Uint8Array | null = null
  private filled = 0
  private parts: Part[] = []
  private current: OpenStream | null = null
  private readonly chunkers: Readonly<Record<'content' | 'dump', Chunker>>

  constructor(content: ContentQueue, keys: DomainKeys, spare: SharedArrayBuffer[]) {
    this.content = content
    this.spare = spare
    const gear = gearTable(keys.chunker)
    this.chunkers = { content: new Chunker(gear, FILE_CHUNKS), dump: new Chunker(gear, DUMP_CHUNKS) }
  }

  get isOpen(): boolean {
    return this.current !== null
  }

  async open(
    entry: Entry,
    chunking: StreamChunking,
  ): Promise<{ write(bytes: Buffer): Promise<void>; end(): Promise<void> }> {
    if (this.parts.length >= MAX_PARTS) await this.flush()
    if (chunking === 'pages' && entry.size === undefined) throw new Error('pages of a file of unknown size')
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
    if (stream.announcedBytes !== null && stream.bytes + bytes.length > stream.announcedBytes)
      throw this.contradicts(stream, bytes.length)
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
    if (stream.chunking === 'pages' || part?.stream !== stream) return this.flush()
    const undecided = this.takeUndecided(part, this.chunkers[stream.chunking])
    await this.flush()
    this.space(stream)
    if (undecided.length > 0) this.take(stream, undecided)
  }

  /** Removes from the end of the last part what may belong to a chunk that goes on, and gives a copy of it. */
  private takeUndecided(part: Part, chunker: Chunker): Buffer {
    const buffer = this.buffer as Uint8Array
    let decided = this.filled - part.length
    let end = chunker.cut(buffer, decided, this.filled, true)
    while (end !== 0) {
      decided = end
      end = chunker.cut(buffer, decided, this.filled, true)
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
    if (stream.announcedBytes === null) stream.entry.size = stream.bytes
    else if (stream.bytes !== stream.announcedBytes) throw this.contradicts(stream, 0)
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
    const left = (stream.announcedBytes ?? Number.POSITIVE_INFINITY) - stream.bytes
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
  readonly chunking: StreamChunking
  readonly pending: Pending
  readonly ids: Buffer[] = []
  /** Null: it shows at the end. */
  readonly announcedBytes: number | null
  parts = 0
  stored = 0
  bytes = 0
  ended = false
  completed = false

  constructor(entry: Entry, chunking: StreamChunking, pending: Pending) {
    this.entry = entry
    this.announcedBytes = entry.size === undefined ? null : contentBytes(entry)
    this.chunking = chunking
    this.pending = pending
  }
}
