import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  assertRestores,
  backUp,
  createTestRepository,
  readTree,
  someBytes,
  type TestRepository,
  temporaryFolder,
  writeTree,
} from '../../test/support/repository.ts'
import { openMemoryStorage } from '../storage/memory.ts'

const MIB = 1024 * 1024

describe('a backup with a limit on reading', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let made: TestRepository

  before(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    const small = Array.from({ length: 20 }, (_, i) => [`small/${i}`, someBytes(`small ${i}`, 50_000)] as const)
    writeTree(tree, { large: someBytes('large', 5 * MIB), ...Object.fromEntries(small) })
    made = await createTestRepository(openMemoryStorage(), folder.path)
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  it('reads no faster, and reads the same', async () => {
    const start = process.hrtime.bigint()
    const { point } = await backUp(made.repository, tree, { limits: { readBytesPerSecond: 4 * MIB } })
    const seconds = Number(process.hrtime.bigint() - start) / 1e9
    // 6 MB less a quarter of a second's credit and the last piece of each thread.
    assert.ok(seconds >= 1, `${seconds} s`)
    await assertRestores(made.repository, point.id, readTree(tree))
  })

  it('is given up at once, however low the limit is', async () => {
    const stop = new AbortController()
    const progress = () => stop.abort()
    const limits = { readBytesPerSecond: 100_000 }
    await assert.rejects(
      backUp(made.repository, tree, { source: 'other', limits, signal: stop.signal, progress }),
      (error: Error) => ['AbortError', 'RegainError'].includes(error.name),
    )
    assert.deepEqual(
      (await made.repository.points()).map(({ source }) => source),
      ['files'],
    )
  })
})
