import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { ClaimTable } from './claim-table.ts'

describe('the table of claims', () => {
  it('tells ids apart that differ in one byte of those it keeps', () => {
    for (const fill of [0, 0xff]) {
      const table = ClaimTable.create()
      const one = Buffer.alloc(32, fill)
      assert.equal(table.has(one), false)
      assert.equal(table.claim(one), true)
      for (let byte = 0; byte < 12; byte++) {
        const other = Buffer.from(one)
        other[byte] = 0x55
        assert.equal(table.has(other), false)
        assert.equal(table.claim(other), true)
        assert.equal(table.has(other), true)
      }
      assert.equal(table.claim(one), false)
    }
  })

  it('lets each chunk be claimed once, by four threads that race while the table grows', async () => {
    const ids = 30_000
    const table = ClaimTable.create()
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
    for (let i = 0; i < ids; i += 11) assert.equal(table.claim(id(i)), false)
    assert.equal(table.claim(id(ids)), true)
  })

  it('is the same table for those who attach to it', () => {
    const table = ClaimTable.create()
    const other = ClaimTable.attach(table.share())
    for (let i = 0; i < 10_000; i++) assert.equal((i % 2 ? table : other).claim(id(i)), true)
    for (let i = 0; i < 10_000; i++) assert.equal((i % 2 ? other : table).claim(id(i)), false)
    assert.equal(other.size, 10_000)
  })
})

function id(number: number): Buffer {
  return createHash('sha256').update(`id ${number}`).digest()
}
