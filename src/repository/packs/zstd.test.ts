import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { compress, compressBound, decompress, decompressBeginning, ZSTD_BLOCK_BYTES } from './zstd.ts'

const MIB = 1024 * 1024
const samples = [Buffer.alloc(0), Buffer.from('a'), Buffer.alloc(8 * MIB, 'an order, paid. '), randomBytes(8 * MIB)]
const room = Buffer.alloc(compressBound(8 * MIB))

test("frames are the standard's, at levels that take turns", () => {
  for (const raw of samples) {
    for (const level of [2, 1, 3]) {
      const frame = room.subarray(0, compress(raw, level, room))
      assert.ok(zstdDecompressSync(frame).equals(raw))
    }
    const to = Buffer.alloc(raw.length + 1)
    assert.equal(decompress(zstdCompressSync(raw), to), raw.length)
    assert.ok(to.subarray(0, raw.length).equals(raw))
  }
})

test('a frame that does not fit, is cut or is none is refused, and the next one opens all the same', () => {
  const frame = zstdCompressSync(Buffer.alloc(1000, 'x'))
  assert.throws(() => decompress(frame, Buffer.alloc(999)), /too small/)
  assert.throws(() => decompress(frame.subarray(0, -1), Buffer.alloc(1000)), /zstd/)
  assert.throws(() => decompress(randomBytes(100), Buffer.alloc(1000)), /zstd/)
  assert.throws(() => compress(Buffer.alloc(1000), 2, Buffer.alloc(5)), /too small/)
  assert.equal(decompress(frame, Buffer.alloc(1000)), 1000)
})

test('the beginning of a frame is right up to a block before the end of the room, whatever the frame holds', () => {
  const mixed = Buffer.concat([
    Buffer.alloc(300_000, 'row '),
    randomBytes(200_000),
    Buffer.alloc(500_000, '0123456789'),
  ])
  for (const raw of [...samples, mixed]) {
    for (const level of [1, 2, 3]) {
      const frame = room.subarray(0, compress(raw, level, room))
      for (let end = 0; end < Math.min(raw.length, MIB); end += 77_777) {
        const to = Buffer.alloc(end + ZSTD_BLOCK_BYTES, 0xee)
        decompressBeginning(frame, to)
        const sure = Math.min(end, raw.length)
        assert.ok(to.subarray(0, sure).equals(raw.subarray(0, sure)), `${sure} of ${raw.length} bytes, level ${level}`)
      }
    }
  }
  const frame = room.subarray(0, compress(mixed, 2, room))
  assert.throws(() => decompressBeginning(randomBytes(100), Buffer.alloc(1000)), /zstd/)
  assert.throws(() => decompressBeginning(frame.subarray(0, 1000), Buffer.alloc(MIB)), /zstd/)
})
