import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { type ChunkLocation, ChunkTable } from './chunk-table.ts'

describe('the chunk table', () => {
  it('gives back what was added first, and nothing else, while it grows', () => {
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
      fc.property(fc.array(action, { maxLength: 300 }), fc.nat(100), (actions, expected) => {
        const table = ChunkTable.create(expected)
        const model = new Map<number, ChunkLocation>()
        for (const [number, place] of actions) {
          if (!model.has(number)) model.set(number, place)
          table.add(id(number), place)
        }
        assert.equal(table.size, model.size)
        for (let number = 0; number <= 400; number++) {
          assert.deepEqual(table.get(id(number)), model.get(number) ?? null)
          assert.equal(table.has(id(number)), model.has(number))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('grows far beyond what was expected', () => {
    const table = ChunkTable.create(0)
    for (let i = 0; i < 50_000; i++) table.add(id(i), { pack: i, group: i % 4096, offset: i, length: i + 1 })
    assert.equal(table.size, 50_000)
    for (let i = 0; i < 50_000; i += 7)
      assert.deepEqual(table.get(id(i)), { pack: i, group: i % 4096, offset: i, length: i + 1 })
    assert.equal(table.get(id(50_001)), null)
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

  it('lets each chunk be claimed once, by four threads that race while the table grows', async () => {
    const ids = 30_000
    const table = ChunkTable.create(0)
    const workers = [1, 7, 11, 13].map(
      (order) =>
        new Worker(new URL('../../../test/support/claim-chunks.ts', import.meta.url), {
          workerData: { shared: table.share(), ids, order },
        }),
    )
    const claimed = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0] as number[]))
    const all = claimed.flat()
    assert.equal(all.length, ids)
    assert.equal(new Set(all).size, ids)
    assert.equal(table.size, ids)
    for (let i = 0; i < ids; i += 11) assert.equal(table.claim(id(i), 1), false)
    assert.equal(table.claim(id(ids), 1), true)
  })

  it('is the same table for those who attach to it', () => {
    const table = ChunkTable.create(5)
    const other = ChunkTable.attach(table.share())
    for (let i = 0; i < 10_000; i++) assert.equal((i % 2 ? table : other).claim(id(i), i), true)
    for (let i = 0; i < 10_000; i++) assert.equal((i % 2 ? other : table).claim(id(i), i), false)
    assert.equal(other.size, 10_000)
  })
})

function id(number: number): Buffer {
  return createHash('sha256').update(`id ${number}`).digest()
}
