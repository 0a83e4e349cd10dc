import type { Entry } from '../../model.ts'
import { SMALL_FILE_BYTES, WINDOW_BYTES } from '../compute/read-files.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import { contentBytes, dataRanges } from '../listing/listing-reader.ts'
import { Chunker, DUMP_CHUNKS, FILE_CHUNKS, gearTable, PAGE_CHUNK_BYTES } from '../packs/chunker.ts'
import { RANGE_BYTES } from '../points/file-ranges.ts'

/** How a writer cut a file: read by itself (compute/read-files.ts), as a stream by its content, as a dump, or into pages. */
export type Cutting = 'file' | 'stream' | 'dump' | 'pages'

/** Up to `length` bytes of the content from `offset` on; offsets ascend. */
type Read = (offset: number, length: number) => Promise<Buffer>

/**
 * Cuts content into chunks as a writer with these keys did. Nothing rests on it: ids tell whether it came out the same.
 */
export class Cutter {
  private readonly chunker: Chunker
  private readonly dumpChunker: Chunker

  constructor(keys: DomainKeys) {
    const gear = gearTable(keys.chunker)
    this.chunker = new Chunker(gear, FILE_CHUNKS)
    this.dumpChunker = new Chunker(gear, DUMP_CHUNKS)
  }

  async *cut(entry: Entry, cutting: Cutting, read: Read): AsyncGenerator<Buffer, void, undefined> {
    const total = contentBytes(entry)
    if (cutting === 'pages') yield* pages(total, read)
    else if (cutting === 'stream') yield* stream(this.chunker, total, read)
    else if (cutting === 'dump') yield* stream(this.dumpChunker, total, read)
    else for (const { at, length } of stretchesOf(entry)) yield* this.stretch(at, length, read)
  }

  /** Where a chunk that begins at `offset` of the content may end, likeliest first. */
  async endsFrom(entry: Entry, offset: number, read: Read): Promise<number[]> {
    const total = contentBytes(entry)
    const stretch = stretchesOf(entry).find(({ at, length }) => at <= offset && offset < at + length)
    const end = stretch ? stretch.at + stretch.length : total
    const bytes = await read(offset, FILE_CHUNKS.maxBytes)
    const byContent = (limit: number, chunker = this.chunker) =>
      offset + chunker.cut(bytes, 0, Math.min(bytes.length, limit - offset), false)
    const page = Math.min(offset - (offset % PAGE_CHUNK_BYTES) + PAGE_CHUNK_BYTES, total)
    return [...new Set([byContent(total), byContent(end), byContent(total, this.dumpChunker), end, page, total])]
  }

  /** As a thread does that reads so much of a file at a time: what is left at its end, if it is small, is one chunk. */
  private async *stretch(at: number, length: number, read: Read): AsyncGenerator<Buffer, void, undefined> {
    const end = at + length
    for (let window = at, filled = at; ; ) {
      filled = Math.min(window + WINDOW_BYTES, end)
      const bytes = await read(window, filled - window)
      const more = filled < end
      let start = 0
      while (start < bytes.length) {
        const isSmallRest = bytes.length < SMALL_FILE_BYTES && !more && start === 0
        const cut = isSmallRest ? bytes.length : this.chunker.cut(bytes, start, bytes.length, more)
        if (cut === 0) break
        yield bytes.subarray(start, cut)
        start = cut
      }
      if (!more) return
      window += start
    }
  }
}

async function* stream(chunker: Chunker, total: number, read: Read): AsyncGenerator<Buffer, void, undefined> {
  for (let at = 0; at < total; ) {
    const bytes = await read(at, FILE_CHUNKS.maxBytes)
    const end = chunker.cut(bytes, 0, bytes.length, false)
    yield bytes.subarray(0, end)
    at += end
  }
}

async function* pages(total: number, read: Read): AsyncGenerator<Buffer, void, undefined> {
  for (let at = 0; at < total; at += PAGE_CHUNK_BYTES) yield await read(at, PAGE_CHUNK_BYTES)
}

/** Pieces of the content that no chunk of a file that was read by itself spans: data ranges, cut where threads take turns. */
function stretchesOf(entry: Entry): { at: number; length: number }[] {
  const stretches: { at: number; length: number }[] = []
  let at = 0
  for (const [offset, length] of dataRanges(entry))
    for (let from = offset; from < offset + length; ) {
      const to = Math.min(offset + length, from - (from % RANGE_BYTES) + RANGE_BYTES)
      stretches.push({ at, length: to - from })
      at += to - from
      from = to
    }
  return stretches
}
