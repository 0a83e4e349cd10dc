import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { Storage } from '../../src/storage/contract.ts'
import { withFaults } from '../../src/storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  hand,
  openTestRepository,
  readTree,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  verify,
  writeTree,
} from '../support/repository.ts'

/** Every pack is sound and the index is not: nothing may be lost, and nothing but time may be spent. */
const LOSSES: Record<string, (storage: MemoryStorage) => void> = {
  'all of it is removed': (storage) => {
    for (const name of indexOf(storage)) storage.objects.delete(name)
  },
  'the first of its segments is removed': (storage) => void storage.objects.delete(indexOf(storage)[0]!),
  'a bit of each segment is flipped': (storage) => {
    for (const name of indexOf(storage)) flip(storage, name, 150)
  },
  'its segments are empty': (storage) => {
    for (const name of indexOf(storage)) storage.objects.set(name, Buffer.alloc(0))
  },
}

describe('a repository whose index is lost:', () => {
  const folder = temporaryFolder()
  const tree = join(folder.path, 'tree')
  const storage = openMemoryStorage()
  let sound: Map<string, Buffer>
  let made: TestRepository
  const expected: Map<string, string>[] = []
  const points: string[] = []

  before(async () => {
    made = await createTestRepository(storage, folder.path)
    writeTree(tree, { 'a/small': 'text', 'a/large': someBytes('large', 3_000_000), b: someBytes('b', 400_000) })
    writeTree(tree, Object.fromEntries(numbers(300).map((i) => [`many/${i % 10}/${i}`, `file ${i}`])))
    for (const change of ['one', 'two']) {
      writeTree(tree, { b: change })
      points.push((await backUp(made.repository, tree)).point.id)
      expected.push(readTree(tree))
    }
    sound = new Map(storage.objects)
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })
  beforeEach(() => {
    storage.objects.clear()
    for (const [name, bytes] of sound) storage.objects.set(name, bytes)
  })

  for (const [loss, lose] of Object.entries(LOSSES)) {
    it(`${loss}: every point is restored, with one warning that says what to do`, async () => {
      lose(storage)
      for (const [i, id] of points.entries()) {
        const ambient = testAmbient()
        const opened = await openTestRepository(storage, made.key, { ambient })
        await assertRestores(opened, id, expected[i]!)
        await opened.close()
        const warnings = ambient.lines.filter(({ message }) => message.includes('regain repository repair shop'))
        // The second point may need only what the first one's segment does not name.
        if (loss !== 'the first of its segments is removed')
          assert.equal(warnings.length, 1, JSON.stringify(ambient.lines))
      }
    })

    it(`${loss}: verification says so, and that no data is hurt`, async () => {
      lose(storage)
      const { problems } = await verify(made.repository, { readData: false })
      assert.ok(problems.length > 0)
      for (const { object, detail, hurts } of problems) {
        assert.match(object, /^(index\/|the index$)/)
        assert.match(detail, /No data is hurt.*regain repository repair shop/)
        assert.deepEqual(hurts, [])
      }
      assert.deepEqual((await verify(made.repository)).problems, problems)
    })

    it(`${loss}: the next backup stores nothing twice and has an index again`, async () => {
      lose(storage)
      const { point } = await backUp(made.repository, tree)
      assert.equal(point.bytes.new, 0)
      const left = indexOf(storage).filter(
        (name) => sound.has(name) && !storage.objects.get(name)!.equals(sound.get(name)!),
      )
      const { problems } = await verify(made.repository)
      assert.deepEqual(problems.map(({ object }) => object).sort(), left.sort())
      for (const name of left) storage.objects.delete(name)
      await assertSound(made.repository)
      await assertRestores(made.repository, point.id, expected[1]!)
    })
  }

  it('a pack that is lost with it is named by verification, with what it hurts', async () => {
    LOSSES['all of it is removed']!(storage)
    const largest = packsOf(storage).sort((a, b) => storage.objects.get(b)!.length - storage.objects.get(a)!.length)[0]!
    flip(storage, largest, storage.objects.get(largest)!.length - 5)
    const { problems } = await verify(made.repository)
    assert.ok(problems.some(({ object }) => object === largest))
    const hurt = new Set(problems.flatMap(({ hurts }) => hurts.map(({ point }) => point)))
    assert.deepEqual(hurt, new Set(points))
  })

  it('nothing of it is looked for in a sound repository, nor in packs of a backup under way', async () => {
    const foreign = await openTestRepository(storage, made.key, { workers: 1 })
    const session = await foreign.startPoint(startRequest({ source: 'other' }))
    const other = join(folder.path, 'other')
    writeTree(other, { x: someBytes('x', 40_000_000) })
    const before = new Set(packsOf(storage))
    await hand(session, other)
    await session.allRead()
    const underWay = packsOf(storage).filter((name) => !before.has(name))
    assert.ok(underWay.length > 0)

    const { counted, reads } = counting(storage)
    const opened = await openTestRepository(counted, made.key)
    await assertRestores(opened, points[1]!, expected[1]!)
    await verify(opened, { readData: false })
    const { point } = await backUp(opened, tree)
    assert.equal(point.bytes.new, 0)
    for (const name of underWay) assert.equal(reads.get(name), undefined, 'a pack of the backup under way was read')
    await opened.close()
    await session.discard()
    await foreign.close()
  })

  it('is read once per pack, however many chunks are looked for', async () => {
    LOSSES['all of it is removed']!(storage)
    const { counted, reads } = counting(storage)
    const opened = await openTestRepository(counted, made.key)
    const point = await opened.openPoint(points[0]!, { signal: uninterrupted() })
    // The directories, and then groups of the listing.
    for await (const _ of point.entries());
    await point.close()
    await opened.close()
    for (const name of packsOf(storage)) assert.ok(reads.get(name)! >= 2)
    const data = packsOf(storage).sort((a, b) => storage.objects.get(b)!.length - storage.objects.get(a)!.length)[0]!
    assert.ok(reads.get(data)! <= 3, `${reads.get(data)} reads of a pack of data`)
  })
})

function indexOf(storage: MemoryStorage): string[] {
  return [...storage.objects.keys()].filter((name) => name.startsWith('index/'))
}

function packsOf(storage: MemoryStorage): string[] {
  return [...storage.objects.keys()].filter((name) => name.startsWith('packs/'))
}

function flip(storage: MemoryStorage, name: string, offset: number): void {
  const bytes = Buffer.from(storage.objects.get(name)!)
  bytes[offset] = bytes[offset]! ^ 1
  storage.objects.set(name, bytes)
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

/** Number of reads of each object. */
function counting(storage: MemoryStorage): { counted: Storage; reads: Map<string, number> } {
  const reads = new Map<string, number>()
  const counted = withFaults(storage, ({ operation, name }) => {
    if (operation === 'get') reads.set(name, (reads.get(name) ?? 0) + 1)
    return null
  })
  return { counted, reads }
}
