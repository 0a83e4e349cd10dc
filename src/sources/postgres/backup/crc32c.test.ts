import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c, formatCrc32c } from './crc32c.ts'

/** Bit by bit, from the definition. */
function slow(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}

test('the check value of CRC-32C, as a manifest writes it', () => {
  assert.equal(crc32c(0, Buffer.from('123456789')), 0xe3069283)
  assert.equal(formatCrc32c(0xe3069283), '839206e3')
  assert.equal(crc32c(0, Buffer.alloc(0)), 0)
})

test('any bytes, at any alignment, in any pieces', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), fc.nat(300), (bytes, shift, cut) => {
      const buffer = Buffer.alloc(bytes.length + shift)
      buffer.set(bytes, shift)
      const view = buffer.subarray(shift)
      assert.equal(crc32c(crc32c(0, view.subarray(0, cut)), view.subarray(cut)), slow(bytes))
    }),
  )
})

test('streams of more than a block, going on from what came before, at any cut', () => {
  const cuts = fc.tuple(fc.nat(8192), fc.integer({ min: 1, max: 200_000 }))
  fc.assert(
    fc.property(fc.integer(), cuts, (seed, [shift, length]) => {
      const bytes = noise(seed, 200_000 + 8192).subarray(shift, shift + length)
      const first = shift % length
      assert.equal(crc32c(crc32c(0, bytes.subarray(0, first)), bytes.subarray(first)), slow(bytes))
    }),
    { numRuns: 30 },
  )
})

/** Bytes without a pattern, made from a seed so that a failure can be seen again. */
function noise(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0, state = seed | 1; i < length; i++) {
    state = Math.imul(state, 1664525) + 1013904223
    bytes[i] = state >>> 24
  }
  return bytes
}
