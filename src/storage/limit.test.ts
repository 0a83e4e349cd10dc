import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { storageContract } from '../../test/contract/storage.ts'
import type { Limits } from './limit.ts'
import { withLimits } from './limit.ts'
import { openMemoryStorage } from './memory.ts'

storageContract('limits', async () => ({ storage: build({ requestsPerSecond: 10 }).storage, dispose: async () => {} }))

/** Time passes only by being waited for, by one after the other. */
function build(limits: Limits) {
  let nowMs = 1_000_000
  const waited = { ms: 0 }
  const waiting = {
    nowMs: () => nowMs,
    async sleep(delayMs: number) {
      nowMs += delayMs
      waited.ms += delayMs
    },
  }
  return { storage: withLimits(openMemoryStorage(), limits, waiting), waited }
}

describe('limits', () => {
  it('hold uploads, downloads and requests to their averages', async () => {
    const bytes = Buffer.alloc(1000)
    const upload = build({ uploadBytesPerSecond: 1000 })
    for (let i = 0; i < 11; i++) await upload.storage.put(`a/${i}`, bytes)
    // The first two are free: one second was saved up, and what is taken is paid for afterwards.
    assert.equal(upload.waited.ms, 9000)
    await upload.storage.get('a/0')
    assert.equal(upload.waited.ms, 9000)

    const download = build({ downloadBytesPerSecond: 500 })
    await download.storage.put('a', bytes)
    for (let i = 0; i < 5; i++) await download.storage.get('a')
    for (let i = 0; i < 5; i++) await download.storage.get('a', { offset: 0, length: 1000 })
    assert.ok(Math.abs(download.waited.ms - 18_000) <= 2000, `${download.waited.ms}`)

    const requests = build({ requestsPerSecond: 2 })
    for (let i = 0; i < 9; i++) await requests.storage.size('a')
    assert.equal(requests.waited.ms, 3000)
  })

  it('leave a store without limits as it is', () => {
    const memory = openMemoryStorage()
    assert.equal(withLimits(memory, {}), memory)
  })
})
