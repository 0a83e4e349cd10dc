import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type ChunkLocation, ChunkTable } from './chunk-table.ts'

describe('the chunk table', () => {
  it('gives back what was added first, and nothing else', () => {
    const location = fc.record(
      {
        pack: fc.nat(2 ** 20 - 2),
        group: fc.nat(4095),
        offset: fc.nat(2 ** 23),
        length: fc.nat(2 ** 23),
      },
      { noNullPrototype: true },
    )
    const action = fc.tuple(fc.nat(400), location)
    fc.assert(
      fc.property(fc.array(action, { maxLength: 300 }), (actions) => {
        const table = ChunkTable.create(actions.length)
        const model = new Map<number, ChunkLocation>()
        for (const [number, place] of actions) {
          if (!model.has(number)) model.set(number, place)
          table.add(id(number), place)
        }
        for (let number = 0; number <= 400; number++) {
          assert.deepEqual(table.get(id(number)), model.get(number) ?? null)
          assert.equal(table.has(id(number)), model.has(number))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('holds what it was made for, and is the same for those who attach to it', () => {
    const chunks = 50_000
    const table = ChunkTable.create(chunks)
    for (let i = 0; i < chunks; i++) table.add(id(i), { pack: i, group: i % 4096, offset: i, length: i + 1 })
    const other = ChunkTable.attach(table.share())
    assert.ok(table.share().byteLength <= chunks * 30)
    const slots = new Set<number>()
    for (let i = 0; i < chunks; i++) {
      assert.deepEqual(other.get(id(i)), { pack: i, group: i % 4096, offset: i, length: i + 1 })
      slots.add(other.slotOf(id(i)))
    }
    assert.equal(slots.size, chunks)
    assert.ok([...slots].every((slot) => slot >= 0 && slot < table.slotCount))
    for (let i = chunks; i < chunks + 1000; i++) assert.equal(other.get(id(i)), null)
  })

  it('refuses what it has no room for, and can still be searched', () => {
    const table = ChunkTable.create(0)
    const place = { pack: 0, group: 0, offset: 0, length: 1 }
    assert.throws(() => {
      for (let i = 0; i < table.slotCount; i++) table.add(id(i), place)
    }, /more chunks/)
    assert.equal(table.has(id(table.slotCount + 1)), false)
    assert.equal(table.has(id(0)), true)
  })

  it('tells ids apart that differ in one byte of those it keeps, and holds the whole range of places', () => {
    const table = ChunkTable.create(10)
    const one = Buffer.alloc(32, 0xff)
    const last = { pack: 2 ** 20 - 2, group: 4095, offset: 2 ** 23, length: 2 ** 23 }
    table.add(one, last)
    for (let byte = 0; byte < 12; byte++) {
      const other = Buffer.from(one)
      other[byte] = 0
      assert.equal(table.get(other), null)
    }
    assert.deepEqual(table.get(one), last)
    table.add(Buffer.alloc(32), { pack: 0, group: 0, offset: 0, length: 0 })
    assert.deepEqual(table.get(Buffer.alloc(32)), { pack: 0, group: 0, offset: 0, length: 0 })
    assert.throws(() => table.add(Buffer.alloc(32, 1), { ...last, pack: 2 ** 20 - 1 }), /packs/)
  })
})

function id(number: number): Buffer {
  return createHash('sha256').update(`id ${number}`).digest()
}
