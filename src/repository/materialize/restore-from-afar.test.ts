import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import {
  backUp,
  createTestRepository,
  readTree,
  restore,
  temporaryFolder,
  writeTree,
} from '../../../test/support/repository.ts'
import type { Storage } from '../../storage/contract.ts'
import { openMemoryStorage } from '../../storage/memory.ts'

const scratch = temporaryFolder()
after(() => scratch.remove())

describe('a restore from a store that threads can not read themselves', () => {
  it('keeps many reads under way, within a bound, and asks for the header of each pack once', async () => {
    const files = join(scratch.path, 'files')
    writeTree(files, { large: randomBytes(90_000_000), small: 'x', 'folder/other': randomBytes(3_000_000) })
    const memory = openMemoryStorage()
    const headers: string[] = []
    let [reads, bytes, peakReads, peakBytes] = [0, 0, 0, 0]
    const store: Storage = {
      ...memory,
      async get(name, range, options) {
        if (!name.startsWith('packs/') || !range) return memory.get(name, range, options)
        if (range.length === 96) headers.push(name)
        reads++
        bytes += range.length
        peakReads = Math.max(peakReads, reads)
        peakBytes = Math.max(peakBytes, bytes)
        // Far away: whatever else can be asked for is asked for first.
        for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
        try {
          return await memory.get(name, range, options)
        } finally {
          reads--
          bytes -= range.length
        }
      },
    }
    const { repository } = await createTestRepository(store, scratch.path, 1)
    const { point } = await backUp(repository, files)
    headers.length = 0
    const { tree, missed } = await restore(repository, point.id)
    await repository.close()
    assert.deepEqual([tree, missed], [readTree(files), []])
    assert.ok(peakReads > 12, `${peakReads} at once`)
    assert.ok(peakBytes <= 65 * 1024 * 1024, `${peakBytes} bytes at once`)
    assert.equal(new Set(headers).size, headers.length)
  })
})
