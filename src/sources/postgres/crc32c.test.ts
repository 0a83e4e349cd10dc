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
