import { RegainError } from '../../errors.ts'
import type { Entry } from '../../model.ts'
import { chunkIds, contentBytes } from '../listing/listing-reader.ts'

interface Reading {
  /** Bytes of a chunk, if they are known without reading it. */
  lengthOf(id: Uint8Array): number | null
  readChunk(id: Uint8Array): Promise<Buffer>
}

interface Piece {
  id: Buffer
  start: number
  length: number
}

/**
 * Content of one entry, without its holes, at places that ascend: chunks between them are not read. Every byte that is given is
 * proven by its chunk's id.
 */
export class ContentCursor {
  private readonly reading: Reading
  private readonly entry: Entry
  private readonly ids: AsyncGenerator<Buffer, void, undefined>
  private piece: Piece | null = null
  private last: { start: number; bytes: Buffer } = { start: 0, bytes: Buffer.alloc(0) }

  constructor(reading: Reading, entry: Entry) {
    this.reading = reading
    this.entry = entry
    this.ids = chunkIds(reading.readChunk, entry)
  }

  /** Up to `length` bytes from `offset` on, which is no smaller than any before; fewer only where the content ends. */
  async read(offset: number, length: number): Promise<Buffer> {
    const end = Math.max(offset, Math.min(offset + length, contentBytes(this.entry)))
    // Who looks ahead reads on from a place that it has passed.
    const known = this.lastFrom(offset, end)
    if (known.length === end - offset) return known
    const pieces = [known]
    for (let at = offset + known.length; at < end; ) {
      const piece = await this.pieceAt(at)
      const bytes = (await this.reading.readChunk(piece.id)).subarray(at - piece.start, end - piece.start)
      if (bytes.length === 0) throw this.contradicts()
      pieces.push(bytes)
      at += bytes.length
    }
    const bytes = Buffer.concat(pieces)
    this.last = { start: offset, bytes }
    return bytes
  }

  private lastFrom(offset: number, end: number): Buffer {
    const { start, bytes } = this.last
    if (offset < start) throw new Error('a cursor does not go back')
    return bytes.subarray(offset - start, end - start)
  }

  private async pieceAt(offset: number): Promise<Piece> {
    while (!this.piece || this.piece.start + this.piece.length <= offset) {
      const start: number = this.piece ? this.piece.start + this.piece.length : 0
      const next = await this.ids.next()
      if (next.done) throw this.contradicts()
      const id = next.value
      const length = this.reading.lengthOf(id) ?? (await this.reading.readChunk(id)).length
      this.piece = { id, start, length }
    }
    return this.piece
  }

  private contradicts(): RegainError {
    return new RegainError(
      'repository-damaged',
      `The size of ${JSON.stringify(this.entry.path)} and its chunks contradict each other.`,
    )
  }
}
