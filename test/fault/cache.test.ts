import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { KeyProvider } from '../../src/keys/contract.ts'
import type { Repository } from '../../src/repository/api.ts'
import { withCache } from '../../src/storage/cache.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import {
  backUp,
  createTestRepository,
  openTestRepository,
  readTree,
  restore,
  someBytes,
  temporaryFolder,
  testAmbient,
  writeTree,
} from '../support/repository.ts'

const scratch = temporaryFolder()
after(() => scratch.remove())
const never = new AbortController().signal
const seed = Number(process.env.REGAIN_SEED ?? randomBytes(4).readUInt32LE())

/** Every call that a store far away would be asked for. */
function counting(inner: MemoryStorage): Storage & { take(): Record<string, number> } {
  let calls: Record<string, number> = {}
  const count = (call: string, name: string) => {
    const kind = `${call} ${name.slice(0, name.indexOf('/') + 1) || name}`
    calls[kind] = (calls[kind] ?? 0) + 1
  }
  return {
    ...inner,
    get: (name, range, options) => {
      count('get', name)
      return inner.get(name, range, options)
    },
    list: (prefix, options) => {
      count('list', prefix)
      return inner.list(prefix, options)
    },
    take() {
      const taken = calls
      calls = {}
      return taken
    },
  }
}

interface Place {
  folder: string
  cache: string
  memory: MemoryStorage
  store: ReturnType<typeof counting>
  key: KeyProvider
  files: string
}

/** A repository of one point, made by another machine. */
async function place(name: string): Promise<Place & { point: string }> {
  const folder = join(scratch.path, name)
  const files = join(folder, 'files')
  const tree = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i % 7}/${i}`, someBytes(`${i}`, 2000)]))
  writeTree(files, { ...tree, large: someBytes('large', 3_000_000), random: randomBytes(50_000) })
  const memory = openMemoryStorage()
  const { repository, key } = await createTestRepository(memory, folder)
  const { point } = await backUp(repository, files)
  await repository.close()
  const store = counting(memory)
  return { folder, cache: join(folder, 'state/cache'), memory, store, key, files, point: point.id }
}

async function using<T>(
  at: Place,
  isCached: boolean,
  use: (repository: Repository) => Promise<T>,
  ambient = testAmbient(Date.UTC(2027, 0, 1)),
): Promise<T> {
  const inner = { ...at.store, close: async () => undefined }
  const storage = isCached ? withCache(inner, { directory: at.cache, ambient }) : inner
  const repository = await openTestRepository(storage, at.key, { ambient })
  try {
    return await use(repository)
  } finally {
    await repository.close()
    await storage.close()
  }
}

async function list(repository: Repository, point: string): Promise<number> {
  const opened = await repository.openPoint(point, { signal: never })
  let entries = 0
  try {
    for await (const _ of opened.entries()) entries++
    assert.equal((await opened.readFile('random')).length, 50_000)
  } finally {
    await opened.close()
  }
  return entries
}

describe('copies of what was read from a store far away', () => {
  test('spare what never changes, and nothing else', async () => {
    const at = await place('requests')
    const requests = async (isCached: boolean, use: (repository: Repository) => Promise<unknown>) => {
      at.store.take()
      await using(at, isCached, use)
      return at.store.take()
    }
    const points = (repository: Repository) => repository.points()
    const ls = (repository: Repository) => list(repository, at.point)
    const without = { points: await requests(false, points), ls: await requests(false, ls) }
    assert.deepEqual(await requests(true, points), without.points)
    assert.deepEqual(await requests(true, ls), without.ls)

    const again = await requests(true, ls)
    const { 'get index/': index, 'get packs/': packs, ...others } = without.ls
    assert.ok(index === 1 && packs! >= 2, JSON.stringify(without.ls))
    assert.deepEqual(again, others)

    const backup = (repository: Repository) => backUp(repository, at.files)
    const cached = await requests(true, backup)
    assert.deepEqual([cached['get index/'], cached['get packs/']], [undefined, undefined])
    // The new point added a segment of its own.
    const uncached = await requests(false, backup)
    assert.ok(uncached['get index/']! >= 1 && uncached['get packs/']! >= 2, JSON.stringify(uncached))
  })

  test('are not what verification, a prune or a repair reads', async () => {
    const at = await place('proof')
    await using(at, true, (repository) => list(repository, at.point))
    for (const [name, bytes] of at.memory.objects)
      if (name.startsWith('packs/') || name.startsWith('index/')) bytes.fill(0, bytes.length >> 1)
    await using(at, true, async (repository) => {
      const options = { signal: never, progress: () => undefined }
      const report = await repository.verify({ ...options, readData: true })
      for (const prefix of ['index/', 'packs/'])
        assert.ok(
          report.problems.some(({ object }) => object.startsWith(prefix)),
          prefix,
        )
      const nothing = { expire: [], trimLog: [], weighed: [] }
      await assert.rejects(repository.planPrune({ ...nothing, ...options }), { code: 'repository-damaged' })
      const repair = await repository.planRepair({ ...options, readData: false })
      assert.ok(JSON.stringify(repair).includes('index/'))
    })
  })

  test('mean nothing once the object is gone from the store', async () => {
    const at = await place('gone')
    await using(at, true, (repository) => list(repository, at.point))
    for (const name of [...at.memory.objects.keys()]) if (name.startsWith('packs/')) at.memory.objects.delete(name)
    await using(at, true, (repository) => assert.rejects(list(repository, at.point), { code: 'repository-damaged' }))
  })

  test(`spoil nothing, whatever becomes of them (REGAIN_SEED=${seed})`, async () => {
    const at = await place('spoilt')
    let state = seed
    const below = (limit: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return Math.floor((state / 2 ** 32) * limit)
    }
    const expected = readTree(at.files)
    const all = () => readdirSync(at.cache).map((file) => join(at.cache, file))
    const someFile = () => {
      const files = all()
      return files[below(files.length)]!
    }
    const spoilers = [
      () => rmSync(at.cache, { recursive: true }),
      () => rmSync(someFile()),
      () => truncateSync(someFile(), below(200)),
      () => truncateSync(someFile(), 100_000_000),
      () => all().forEach((path) => void writeFileSync(path, randomBytes(below(3000)))),
      ...Array.from({ length: 8 }, () => () => all().forEach(flip)),
      () => {
        const path = someFile()
        rmSync(path)
        mkdirSync(path)
      },
      () => {
        rmSync(at.cache, { recursive: true })
        symlinkSync('/nonexistent/place', at.cache)
      },
    ]
    for (const [number, spoil] of [...spoilers, ...spoilers].entries()) {
      rmSync(at.cache, { recursive: true, force: true })
      await using(at, true, (repository) => list(repository, at.point))
      spoil()
      const ambient = testAmbient()
      const use = async (repository: Repository) => {
        assert.equal(await list(repository, at.point), expected.size)
        if (number === 0) assert.deepEqual((await restore(repository, at.point)).tree, expected)
      }
      await using(at, true, use, ambient)
      const blamed = ambient.lines.filter(({ message }) => !message.startsWith('No copies'))
      assert.deepEqual(blamed, [], `spoiler ${number}`)
    }

    function flip(path: string): void {
      const bytes = readFileSync(path)
      const bit = below(bytes.length)
      bytes[bit] = bytes[bit]! ^ 1
      writeFileSync(path, bytes)
    }
  })
})
