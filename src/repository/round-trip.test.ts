import assert from 'node:assert/strict'
import { appendFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  readTree,
  restore,
  someBytes,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  writeTree,
} from '../../test/support/repository.ts'
import type { Storage } from '../storage/contract.ts'
import { withFaults } from '../storage/fault.ts'
import { createLocalStorage } from '../storage/local.ts'
import { openMemoryStorage } from '../storage/memory.ts'

const MIB = 1024 * 1024

const STORES: Record<string, (folder: string) => Promise<Storage>> = {
  memory: async () => openMemoryStorage(),
  'local storage': (folder) => createLocalStorage(join(folder, 'store')),
  // The decorator hides the directory, as every remote store does: the main thread fetches.
  'local storage without a directory for the threads': async (folder) =>
    withFaults(await createLocalStorage(join(folder, 'store')), () => null),
}

for (const [name, makeStorage] of Object.entries(STORES))
  describe(`a folder backed up to ${name}`, () => {
    let folder: ReturnType<typeof temporaryFolder>
    let tree: string
    let storage: Storage
    let made: TestRepository
    let stop: () => Promise<void>

    before(async () => {
      folder = temporaryFolder()
      tree = join(folder.path, 'tree')
      storage = await makeStorage(folder.path)
      made = await createTestRepository(storage, folder.path)
      stop = async () => {
        await made.repository.close()
        await storage.close()
        folder.remove()
      }
      const shared = someBytes('shared', 3 * MIB)
      writeTree(tree, {
        'empty/': '',
        'sizes/0': '',
        'sizes/1': 'x',
        'sizes/below': someBytes('below', MIB - 1),
        'sizes/exact': someBytes('exact', MIB),
        'sizes/above': someBytes('above', MIB + 1),
        'copies/a': shared,
        'copies/b': shared,
        'copies/small-1': 'the same few bytes',
        'copies/small-2': 'the same few bytes',
        link: { link: 'sizes/1' },
        'sparse/middle': { size: 9 * MIB, data: [[4 * MIB, someBytes('middle', 70_000)]] },
        'sparse/small': { size: 300 * 1024, data: [[200 * 1024, someBytes('small', 5000)]] },
        'sparse/all-hole': { size: 5 * MIB, data: [] },
        'sparse/ends': {
          size: 100 * MIB,
          data: [
            [0, someBytes('start', 4096)],
            [63 * MIB, someBytes('across', 2 * MIB)],
            [100 * MIB - 4096, someBytes('end', 4096)],
          ],
        },
        'repetitive/zeros': Buffer.alloc(6 * MIB),
      })
    })
    after(() => stop())

    it('comes back byte for byte', async () => {
      const { point, missed } = await backUp(made.repository, tree)
      assert.deepEqual(missed, [])
      assert.equal(point.complete, true)
      await assertRestores(made.repository, point.id, readTree(tree))
      await assertSound(made.repository)
    })

    it('keeps the holes of sparse files', async () => {
      const [point] = await made.repository.points()
      const target = temporaryFolder()
      try {
        const open = await made.repository.openPoint(point!.id, { signal: uninterrupted() })
        const to = join(target.path, 'to')
        await open.materialize(to, { signal: uninterrupted(), progress() {}, warn() {} })
        await open.close()
        for (const file of ['sparse/middle', 'sparse/small', 'sparse/all-hole', 'sparse/ends'])
          assert.ok(
            statSync(join(to, file)).blocks <= statSync(join(tree, file)).blocks + 64,
            `${file}: ${statSync(join(to, file)).blocks} blocks`,
          )
      } finally {
        target.remove()
      }
    })

    it('streams single files, holes as zeros', async () => {
      const [point] = await made.repository.points()
      const open = await made.repository.openPoint(point!.id, { signal: uninterrupted() })
      try {
        assert.equal((await open.readFile('sizes/exact')).equals(someBytes('exact', MIB)), true)
        assert.equal((await open.readFile('sizes/0')).length, 0)
        const middle = await open.readFile('sparse/middle')
        assert.equal(middle.length, 9 * MIB)
        assert.equal(middle.subarray(4 * MIB, 4 * MIB + 70_000).equals(someBytes('middle', 70_000)), true)
        assert.equal(middle.subarray(0, 4 * MIB).equals(Buffer.alloc(4 * MIB)), true)
        assert.equal(await open.entry('sizes/none'), null)
        await assert.rejects(open.readFile('sizes'), { code: 'point-not-found' })
        await assert.rejects(open.readFile('sparse/ends'), { code: 'usage' })
      } finally {
        await open.close()
      }
    })

    it('reads nothing of an unchanged tree, and stores next to nothing', async () => {
      const { point } = await backUp(made.repository, tree)
      assert.equal(point.bytes.read, 0)
      assert.equal(point.bytes.new, 0)
      assert.equal(point.bytes.stored, 0)
      await assertRestores(made.repository, point.id, readTree(tree))
    })

    it('reads and stores only what changed, and keeps the points before it', async () => {
      const points = await made.repository.points()
      const before = readTree(tree)
      appendFileSync(join(tree, 'sizes/exact'), 'more')
      writeFileSync(join(tree, 'sizes/1'), 'y')
      rmSync(join(tree, 'copies/b'))
      writeTree(tree, { 'new/deep/er/file': 'hello', 'copies/c': someBytes('shared', 3 * MIB) })
      const { point } = await backUp(made.repository, tree)
      assert.equal(point.bytes.read, MIB + 4 + 1 + 5 + 3 * MIB)
      assert.ok(point.bytes.new < 2 * MIB, `${point.bytes.new} new bytes`)
      await assertRestores(made.repository, point.id, readTree(tree))
      await assertRestores(made.repository, points[0]!.id, before)
      assert.deepEqual(
        (await made.repository.points()).map(({ id }) => id),
        [...points.map(({ id }) => id), point.id],
      )
      assert.equal(point.previous?.id, points.at(-1)!.id)
      await assertSound(made.repository)
    })

    it('finds a point by its beginning', async () => {
      const points = await made.repository.points()
      const { id } = points[0]!
      assert.equal((await made.repository.findPoint(id.slice(0, 8))).id, id)
      assert.equal((await made.repository.findPoint(id)).id, id)
      await assert.rejects(made.repository.findPoint(id.slice(0, 3)), { code: 'point-not-found' })
      await assert.rejects(made.repository.findPoint('zzzzzzzz'), { code: 'point-not-found' })
      await assert.rejects(made.repository.openPoint('0'.repeat(32), { signal: uninterrupted() }), {
        code: 'point-not-found',
      })
    })

    it('restores an empty folder, and refuses a target with something in it', async () => {
      const bare = join(folder.path, 'bare')
      writeTree(folder.path, { 'bare/': '' })
      const { point } = await backUp(made.repository, bare, { source: 'bare' })
      const restored = await restore(made.repository, point.id)
      assert.equal(restored.tree.size, 1)
      const open = await made.repository.openPoint(point.id, { signal: uninterrupted() })
      await assert.rejects(open.materialize(tree, { signal: uninterrupted(), progress() {}, warn() {} }), {
        code: 'target-not-empty',
      })
      await open.close()
    })
  })
