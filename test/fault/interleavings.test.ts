import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import type { Ambient, Entry } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository, openRepository } from '../../src/repository/repository.ts'
import type { RepositoryState } from '../../src/repository/repository-state.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import { inlinePool } from '../support/inline-pool.ts'
import { Interleaving, type Random, randomBytesFrom, randomFrom } from '../support/interleaving.ts'
import {
  chooseSeed,
  startRequest,
  temporaryFolder,
  testAmbient,
  testKey,
  uninterrupted,
} from '../support/repository.ts'

/** Orders of store calls that are tried; the soak test sets more. */
const SEEDS = Number(process.env.REGAIN_SOAK_INTERLEAVINGS ?? 200)
const SOURCES = ['one', 'two']
/** Few, so that points share them and what one drops the next one wants. */
const CONTENTS = Array.from({ length: 7 }, (_, i) => Buffer.from(`content ${i} `.repeat(8 + i * 5)))
const DAY_MS = 24 * 3_600_000

type Tree = Map<string, number>

/** Everything that one run knows of what should be. */
interface World {
  run: Interleaving
  random: Random
  /** By session, written down before it may commit. */
  trees: Map<string, Tree>
  /** Told as committed. */
  told: Set<string>
  /** Asked to be expired. */
  expiring: Set<string>
  /**
   * Whether clocks differ by days, so that processes are taken for dead that live: then a reader may lose its pin, and nothing
   * else. Not by the 30 days after which an expiry is forgotten: a writer that slept so long leaves a receipt that looks lost.
   */
  lies: boolean
}

/**
 * Writers, readers and collectors of the real code on one store, their calls in orders that seeds decide, with sleeps, crashes,
 * lost answers and listings that are no single moment. Whatever happens, every point that was committed and not
 * expired restores byte for byte.
 */
describe('writers, readers and collectors in any order', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let key: KeyProvider
  let start: Map<string, Buffer>

  before(async () => {
    folder = temporaryFolder()
    const memory = openMemoryStorage()
    const kek = await testKey(folder.path)
    // The same keys each time, so that a seed does the same: ids of chunks decide what is written when.
    const ambient = { ...testAmbient(), randomBytes: randomBytesFrom(randomFrom('keys')) }
    const repository = await createRepository({ storage: memory, keys: [kek], ambient, workers: 1, service: 'shop' })
    key = await inMemory(kek, memory)
    await repository.close()
    start = new Map(memory.objects)
  })
  after(() => folder.remove())

  /** The same key without its file, which would be read at a moment of its own. */
  async function inMemory(file: KeyProvider, memory: MemoryStorage): Promise<KeyProvider> {
    const opened: Buffer[] = []
    const unwrap: KeyProvider['unwrap'] = async (wrapped, about) => {
      const unwrapped = await file.unwrap(wrapped, about)
      if (unwrapped) opened.push(Buffer.from(unwrapped))
      return unwrapped
    }
    const wrapping = { ...file, type: file.type, description: file.description }
    const kekName: KeyProvider['kekName'] = (argon2id) => file.kekName(argon2id)
    await (
      await openRepository({ storage: memory, keys: [{ ...wrapping, unwrap, kekName }], ambient: testAmbient() })
    ).close()
    const name = await file.kekName()
    return {
      ...wrapping,
      unwrap: async () => Buffer.from(opened[0] as Buffer),
      kekName: async () => name,
    }
  }

  it('lose no point that was committed and not expired', async (t) => {
    const first = chooseSeed()
    const single = process.env.REGAIN_TEST_SEED !== undefined && first.includes('-')
    t.diagnostic(`seeds ${first}-0 to ${first}-${SEEDS - 1}`)
    const sums = { steps: 0, points: 0, removed: 0 }
    for (let i = 0; i < (single ? 1 : SEEDS); i++) {
      const seed = single ? first : `${first}-${i}`
      const run = new Map<string, number>()
      try {
        const counted = await interleave(seed)
        for (const [what, count] of Object.entries(counted)) sums[what as keyof typeof sums] += count
      } catch (error) {
        assert.fail(`seed ${seed} (again with REGAIN_TEST_SEED=${seed}): ${(error as Error).stack}\n${run.size}`)
      }
    }
    t.diagnostic(`${sums.steps} store calls, ${sums.points} points, ${sums.removed} packs removed`)
    assert.ok(single || (sums.points > SEEDS && sums.removed > SEEDS), 'too little happened to show anything')
  })

  async function interleave(seed: string): Promise<{ steps: number; points: number; removed: number }> {
    const random = randomFrom(seed)
    const run = new Interleaving(start, random, { crash: random(3) === 0 ? 0 : 8, fail: random(3) === 0 ? 0 : 15 })
    const world: World = {
      run,
      random,
      trees: new Map(),
      told: new Set(),
      expiring: new Set(),
      lies: random(3) === 0,
    }
    for (const source of SOURCES) run.spawn(`writer-${source}`, (storage) => write(world, storage, source))
    for (const number of [1, 2]) run.spawn(`collector-${number}`, (storage) => collect(world, storage, number))
    run.spawn('reader', (storage) => read(world, storage))
    try {
      await run.run()
      return { steps: run.trace.length, points: world.told.size, removed: await check(world) }
    } catch (error) {
      if (process.env.REGAIN_TEST_SEED) process.stderr.write(`${run.trace.join('\n')}\n`)
      throw error
    }
  }

  /** A handle of its own, as on another host: another clock, and its own idea of who is alive. */
  async function open(world: World, storage: Storage, name: string): Promise<Repository> {
    const { random, run } = world
    const randomBytes = randomBytesFrom(randomFrom(`${name} ${random(2 ** 31)}`))
    let nowMs = Date.UTC(2026, 0, 1) + (world.lies ? random(29) * DAY_MS : 0)
    const ambient: Ambient = {
      now: () => (nowMs += 1000),
      randomBytes,
      process: {
        identity: name,
        // That one is dead is certain or not said; who is taken for dead by a clock may live. Where clocks lie by days, nobody is
        // certain of it before the last call has arrived: together that would be a call on its way for days.
        isAlive: (other) => {
          if (!world.lies) return !run.isCrashed(other)
          if (!run.isCrashed(other)) return [true, null][random(2)] as boolean | null
          return run.hasLate(other) ? null : false
        },
      },
      log: () => undefined,
    }
    const repository = await openRepository({ storage, keys: [key], ambient, workers: 1 })
    const state = (repository as unknown as { state: RepositoryState }).state
    return Object.assign(repository, { state: { ...state, pool: inlinePool(state.keys, randomBytes) } })
  }

  async function write(world: World, storage: Storage, source: string): Promise<void> {
    for (let round = 0; round < 3; round++)
      await tolerate(['storage-unavailable', 'session-fenced'], async () => {
        const repository = await open(world, storage, `writer-${source}`)
        const session = await repository.startPoint(startRequest({ source }))
        try {
          const tree = await fill(world, session)
          world.trees.set(session.id, tree)
          await session.commit({ kind: 'full', root: '/', positions: {}, sourceBytes: 0, missed: [] })
          world.told.add(session.id)
        } catch (error) {
          await tolerate(['storage-unavailable'], () => session.discard())
          throw error
        }
      })
  }

  async function fill(world: World, session: Awaited<ReturnType<Repository['startPoint']>>): Promise<Tree> {
    const { random } = world
    const base = new Map<string, Entry>()
    if (session.base)
      await tolerate(['repository-damaged', 'storage-not-found', 'storage-unavailable'], async () => {
        for await (const entry of session.base!.entries()) base.set(entry.path, entry)
      })
    const tree: Tree = new Map()
    await session.add({ path: '', type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: '0' })
    for (let file = 0; file < 4; file++) {
      const content = random(CONTENTS.length)
      const bytes = CONTENTS[content] as Buffer
      const path = `f${file}`
      const entry: Entry = {
        path,
        type: 'file',
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: '0',
        size: bytes.length,
        inode: String(content),
      }
      tree.set(path, content)
      const before = base.get(path)
      if (before && before.inode === entry.inode && (await session.addUnchanged(entry, before))) continue
      const stream = await session.addStream(entry, 'content')
      await stream.write(bytes)
      await stream.end()
    }
    return tree
  }

  async function collect(world: World, storage: Storage, number: number): Promise<void> {
    const { random } = world
    for (let round = 0; round < 3; round++)
      await tolerate(['storage-unavailable', 'point-not-found'], async () => {
        const repository = await open(world, storage, `collector-${number}`)
        const points = await repository.points()
        const expire = points.filter(() => random(2) === 0).map(({ id }) => ({ id, reason: 'a test' }))
        const plan = await repository.planPrune({
          expire,
          trimLog: [],
          weighed: points.map(({ id }) => id),
          signal: uninterrupted(),
          progress: () => undefined,
        })
        for (const { id } of plan.expire) world.expiring.add(id)
        await repository.prune(plan, { signal: uninterrupted(), progress: () => undefined })
      })
  }

  async function read(world: World, storage: Storage): Promise<void> {
    const allowed = [
      'storage-unavailable',
      'point-not-found',
      ...(world.lies ? ['repository-damaged', 'storage-not-found'] : []),
    ]
    for (let round = 0; round < 4; round++)
      await tolerate(allowed, async () => {
        const repository = await open(world, storage, 'reader')
        const points = await repository.points()
        const point = points[world.random(points.length)]
        if (point) await assertWhole(world, repository, point.id)
      })
  }

  async function assertWhole(world: World, repository: Repository, id: string): Promise<void> {
    const point = await repository.openPoint(id, { signal: uninterrupted() })
    try {
      const expected = world.trees.get(id)
      assert.ok(expected, `point ${id} was never handed to a commit`)
      const found: Tree = new Map()
      for await (const entry of point.entries()) {
        if (entry.type !== 'file') continue
        const bytes: Buffer[] = []
        for await (const piece of point.stream(entry)) bytes.push(piece)
        found.set(
          entry.path,
          CONTENTS.findIndex((content) => content.equals(Buffer.concat(bytes))),
        )
      }
      assert.deepEqual(found, expected, `point ${id}`)
    } finally {
      await point.close()
    }
  }

  /** In peace: all is there that must be, and one or two honest prunes leave nothing over. */
  async function check(world: World): Promise<number> {
    const memory = openMemoryStorage()
    for (const [name, bytes] of world.run.objects) memory.objects.set(name, bytes)
    const honest: World = { ...world, lies: false }
    const repository = await open(honest, memory, 'check')
    const { state } = repository as unknown as { state: RepositoryState }
    // Long after, everybody who took part is gone.
    const late: Ambient = {
      ...state.ambient,
      now: () => Date.UTC(2027, 0, 1),
      process: { identity: 'check', isAlive: () => false },
    }
    Object.assign(repository, { state: { ...state, ambient: late } })
    await assertAll(honest, repository)
    const packs = () => [...memory.objects.keys()].filter((name) => name.startsWith('packs/')).length
    const before = packs()
    for (let round = 0; round < 3; round++) {
      const plan = await planOf(repository)
      await repository.prune(plan, { signal: uninterrupted(), progress: () => undefined })
      await assertAll(honest, repository)
    }
    await assertClean(repository, memory)
    return before - packs() + world.run.trace.filter((line) => line.includes('delete packs/')).length
  }

  async function assertAll(world: World, repository: Repository): Promise<void> {
    const points = await repository.points()
    for (const { id } of points) await assertWhole(world, repository, id)
    const there = new Set(points.map(({ id }) => id))
    for (const id of world.told) assert.ok(there.has(id) || world.expiring.has(id), `point ${id} is gone`)
  }

  async function assertClean(repository: Repository, memory: MemoryStorage): Promise<void> {
    const plan = await planOf(repository)
    assert.deepEqual(
      [plan.packs.remove, plan.packs.repack, plan.expire, plan.sessions, plan.pins],
      [[], [], [], [], []],
    )
    const names = (prefix: string) =>
      [...memory.objects.keys()]
        .filter((name) => name.startsWith(prefix))
        .map((name) => name.slice(prefix.length))
        .sort()
    const ids = (await repository.points()).map(({ id }) => id).sort()
    assert.deepEqual([names('sessions/'), names('ends/')], [ids, ids])
    const report = await repository.verify({ readData: true, signal: uninterrupted(), progress: () => undefined })
    // A writer may have died between its commit and its receipt.
    assert.deepEqual(
      report.problems.filter(({ object }) => !object.startsWith('receipts/')),
      [],
    )
  }

  function planOf(repository: Repository) {
    return repository.planPrune({
      expire: [],
      trimLog: [],
      weighed: [],
      signal: uninterrupted(),
      progress: () => undefined,
    })
  }

  async function tolerate(codes: string[], work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!isRegainError(error) || !codes.includes(error.code)) throw error
    }
  }
})
