import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Chunker, type ChunkSizes, FILE_CHUNKS, gearTable } from './chunker.ts'

const GEAR = gearTable(Buffer.alloc(32, 7))
/** Small, so that properties are tried on many chunks. */
const SMALL: ChunkSizes = { minBytes: 64, normalBytes: 256, maxBytes: 1024 }
const MIB = 1024 * 1024

describe('the chunker', () => {
  it('cuts by content, however the bytes are fed', () => {
    fc.assert(
      fc.property(bytesOf(20_000), fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 30 }), (bytes, feeds) => {
        assert.deepEqual(fedPiecewise(bytes, feeds, SMALL), wholly(bytes, SMALL))
      }),
    )
  })

  it('keeps to its sizes, and gives every byte to one chunk', () => {
    fc.assert(
      fc.property(bytesOf(20_000), (bytes) => {
        const ends = wholly(bytes, SMALL)
        let start = 0
        for (const [i, end] of ends.entries()) {
          assert.ok(end > start && end - start <= SMALL.maxBytes, `${end - start} bytes`)
          if (i < ends.length - 1) assert.ok(end - start > SMALL.minBytes, `${end - start} bytes`)
          start = end
        }
        assert.equal(start, bytes.length)
      }),
    )
  })

  it('cuts a chunk alike wherever it stands in a buffer', () => {
    fc.assert(
      fc.property(bytesOf(5000), fc.nat(500), fc.nat(500), (bytes, before, after) => {
        const chunker = new Chunker(GEAR, SMALL)
        const shifted = Buffer.concat([Buffer.alloc(before, 1), bytes, Buffer.alloc(after, 2)])
        const end = chunker.cut(shifted, before, before + bytes.length, false)
        assert.equal(end - before, chunker.cut(bytes, 0, bytes.length, false))
      }),
    )
  })

  it('finds itself again soon after an insertion', () => {
    const bytes = random('insertion', 40 * MIB)
    const inserted = Buffer.concat([
      bytes.subarray(0, 10 * MIB),
      Buffer.from('a few more bytes'),
      bytes.subarray(10 * MIB),
    ])
    const before = chunksOf(bytes, FILE_CHUNKS)
    const after = chunksOf(inserted, FILE_CHUNKS)
    const changed = after.filter((chunk) => !before.includes(chunk))
    assert.ok(before.length > 15, `${before.length} chunks`)
    assert.ok(changed.length <= 4, `${changed.length} of ${after.length} chunks changed`)
  })

  it('makes chunks of about the normal size', () => {
    const ends = wholly(random('sizes', 64 * MIB), FILE_CHUNKS)
    const mean = (64 * MIB) / ends.length
    assert.ok(mean > FILE_CHUNKS.normalBytes / 2 && mean < FILE_CHUNKS.normalBytes * 2, `${mean} bytes`)
  })

  it('cuts bytes that never change at the largest size', () => {
    const ends = wholly(Buffer.alloc(9 * MIB), FILE_CHUNKS)
    assert.deepEqual(ends, [4 * MIB, 8 * MIB, 9 * MIB])
  })

  it('cuts elsewhere under another key', () => {
    const bytes = random('keys', 32 * MIB)
    const other = new Chunker(gearTable(Buffer.alloc(32, 8)), FILE_CHUNKS)
    const ends = wholly(bytes, FILE_CHUNKS)
    const others = wholly(bytes, FILE_CHUNKS, other)
    assert.ok(ends.filter((end) => others.includes(end)).length <= 2)
  })
})

/** Random bytes with runs in them, so that boundaries fall everywhere. */
function bytesOf(maxLength: number): fc.Arbitrary<Buffer> {
  return fc
    .tuple(fc.string({ maxLength: 8 }), fc.nat(maxLength), fc.nat(maxLength))
    .map(([seed, length, zeros]) => random(seed, length).fill(0, Math.min(zeros, length >>> 1), length >>> 1))
}

function random(seed: string, length: number): Buffer {
  return createHash('shake256', { outputLength: Math.max(length, 1) })
    .update(seed)
    .digest()
    .subarray(0, length)
}

function wholly(bytes: Buffer, sizes: ChunkSizes, chunker = new Chunker(GEAR, sizes)): number[] {
  const ends: number[] = []
  for (let at = 0; at < bytes.length; at = ends.at(-1)!) ends.push(chunker.cut(bytes, at, bytes.length, false))
  return ends
}

/** As a reader of a file does: what has come so far, more to follow, until the end. */
function fedPiecewise(bytes: Buffer, feeds: readonly number[], sizes: ChunkSizes): number[] {
  const chunker = new Chunker(GEAR, sizes)
  const ends: number[] = []
  let seen = 0
  let at = 0
  for (const feed of [...feeds, bytes.length]) {
    seen = Math.min(bytes.length, seen + feed)
    while (at < seen) {
      const end = chunker.cut(bytes, at, seen, seen < bytes.length)
      if (end === 0) break
      ends.push(end)
      at = end
    }
  }
  return ends
}

function chunksOf(bytes: Buffer, sizes: ChunkSizes): string[] {
  let start = 0
  return wholly(bytes, sizes).map((end) => {
    const digest = createHash('sha1').update(bytes.subarray(start, end)).digest('hex')
    start = end
    return digest
  })
}
