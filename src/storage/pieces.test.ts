import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blocksOf, lengthOf } from './pieces.ts'

describe('bytes in blocks', () => {
  it('are the same bytes, all blocks but the last full', () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 })
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 64 }), (given, size) => {
        const blocks = [...blocksOf(given, size)]
        assert.ok(Buffer.concat(blocks).equals(Buffer.concat(given)))
        assert.equal(lengthOf(given), Buffer.concat(given).length)
        for (const block of blocks.slice(0, -1)) assert.equal(block.length, size)
        assert.ok(blocks.every((block) => block.length > 0))
      }),
    )
  })

  it('never hand on shared memory', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(10)).fill(7)
    for (const block of blocksOf(shared, 4)) assert.ok(block.buffer instanceof ArrayBuffer)
    assert.equal(lengthOf(shared), 10)
  })

  it('copy nothing that lies in one piece', () => {
    const piece = Buffer.alloc(10)
    for (const block of blocksOf(piece, 4)) assert.equal(block.buffer, piece.buffer)
  })
})
