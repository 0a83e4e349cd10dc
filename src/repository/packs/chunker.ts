import { createCipheriv } from 'node:crypto'

/**
 * Content-defined chunking: boundaries move with the content, so an insertion costs one or two chunks. A gear hash whose
 * table comes from a secret, with a stricter mask before the normal size and a looser one after it, which narrows the
 * spread of sizes. What a writer chooses here is its own business: readers only see chunks.
 */
export interface ChunkSizes {
  minBytes: number
  normalBytes: number
  maxBytes: number
}

/** Files: measured in docs/decisions/0003. */
export const FILE_CHUNKS: ChunkSizes = { minBytes: 256 * 1024, normalBytes: 1024 * 1024, maxBytes: 4 * 1024 * 1024 }
/** Logical dumps: rows that change lie scattered, and one of them should cost little (docs/decisions/0034). */
export const DUMP_CHUNKS: ChunkSizes = { minBytes: 32 * 1024, normalBytes: 128 * 1024, maxBytes: 512 * 1024 }
/** Physical database files change page by page, in place: fixed, page-aligned pieces. */
export const PAGE_CHUNK_BYTES = 128 * 1024

/** 256 pseudo-random words from the domain's chunker key. */
export function gearTable(chunkerKey: Buffer): Uint32Array {
  const stream = createCipheriv('aes-256-ctr', chunkerKey, Buffer.alloc(16)).update(Buffer.alloc(1024))
  const table = new Uint32Array(256)
  for (let i = 0; i < 256; i++) table[i] = stream.readUInt32LE(i * 4)
  return table
}

export class Chunker {
  private readonly gear: Uint32Array
  private readonly sizes: ChunkSizes
  private readonly strictMask: number
  private readonly looseMask: number

  constructor(gear: Uint32Array, sizes: ChunkSizes) {
    this.gear = gear
    this.sizes = sizes
    const bits = Math.round(Math.log2(sizes.normalBytes))
    this.strictMask = topBits(bits + 1)
    this.looseMask = topBits(bits - 2)
  }

  /**
   * End of the chunk that begins at `start` of `bytes`, looking no further than `end`. When `more` is true and the data
   * seen so far has no boundary, 0: call again with more bytes (at most maxBytes are ever needed).
   */
  cut(bytes: Uint8Array, start: number, end: number, more: boolean): number {
    const { minBytes, normalBytes, maxBytes } = this.sizes
    const limit = Math.min(end, start + maxBytes)
    const gear = this.gear
    let hash = 0
    let at = start + minBytes
    const normal = Math.min(limit, start + normalBytes)
    for (const strict = this.strictMask; at < normal; at++) {
      hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0
      if ((hash & strict) === 0) return at + 1
    }
    for (const loose = this.looseMask; at < limit; at++) {
      hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0
      if ((hash & loose) === 0) return at + 1
    }
    if (limit === start + maxBytes || !more) return limit
    return 0
  }
}

/** The gear hash keeps its longest memory in the top bits: 32 bytes of window for bit 31. */
function topBits(count: number): number {
  return (0xffffffff << (32 - count)) | 0
}
