import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { copyLog } from '../../src/operations/copy-log.ts'
import { copyPoint } from '../../src/operations/copy-point.ts'
import { mend } from '../../src/operations/repair.ts'
import type { Repository } from '../../src/repository/api.ts'
import { withFaults } from '../../src/storage/fault.ts'
import { openMemoryStorage } from '../../src/storage/memory.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  chooseSeed,
  createTestRepository,
  openTestRepository,
  readTree,
  restore,
  seededNumbers,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  verify,
  writeTree,
} from '../support/repository.ts'

const MIB = 1024 * 1024
const RUN = { signal: uninterrupted(), progress: () => undefined }
const TURNS = 2
const UNTIL = '2026-01-02T03:04:05.678Z'

/** One of two repositories that hold the same points under keys of their own. */
class Place {
  readonly storage = openMemoryStorage()
  readonly points: string[] = []
  made!: TestRepository
  private sound = new Map<string, Buffer>()

  async make(folder: string): Promise<void> {
    this.made = await createTestRepository(this.storage, folder)
  }

  get repository(): Repository {
    return this.made.repository
  }

  keep(): void {
    this.sound = new Map(this.storage.objects)
  }

  reset(): void {
    this.storage.objects.clear()
    for (const [name, bytes] of this.sound) this.storage.objects.set(name, bytes)
  }

  named(prefix: string): string[] {
    return [...this.storage.objects.keys()].filter((name) => name.startsWith(prefix)).sort()
  }

  damage(name: string, way: number, random: (below: number) => number): void {
    const bytes = Buffer.from(this.storage.objects.get(name) as Buffer)
    if (way === 0) this.storage.objects.delete(name)
    else if (way === 1) this.storage.objects.set(name, bytes.subarray(0, random(bytes.length)))
    else {
      const at = way === 2 ? random(bytes.length) : bytes.length - 1 - random(Math.min(bytes.length, 200))
      bytes[at] = (bytes[at] as number) ^ 1
      this.storage.objects.set(name, bytes)
    }
  }
}

function repair(own: Repository, other: Repository) {
  const place = { name: 'far', withRepository: (use: (repository: Repository) => Promise<void>) => use(other) }
  return mend(own, { readData: true, isDryRun: false }, [place], RUN, () => undefined)
}

describe('a repository that lost something which another one holds', () => {
  const folder = temporaryFolder()
  const tree = join(folder.path, 'tree')
  const original = new Place()
  const copy = new Place()
  const trees: Map<string, string>[] = []

  before(async () => {
    await original.make(folder.path)
    await copy.make(folder.path)
    writeTree(tree, {
      // What is left behind a thread's window is one chunk if it is small: 700 KB here.
      'a/large': someBytes('large', 9 * MIB + 700_000),
      'a/sparse': {
        size: 9 * MIB,
        data: [
          [3 * MIB, someBytes('in a hole', 1_700_000)],
          [8 * MIB, someBytes('more', 70_000)],
        ],
      },
      b: someBytes('b', 700_000),
      link: { link: 'b' },
    })
    // Several pages of listing.
    for (let i = 0; i < 1500; i++) writeTree(tree, { [`many/with a long name ${'x'.repeat(100)} ${i}`]: `file ${i}` })
    for (const change of ['one', 'two', 'three']) {
      writeTree(tree, { changing: change, [`only/${change}`]: someBytes(change, 50_000) })
      const { point } = await backUp(original.repository, tree)
      original.points.push(point.id)
      trees.push(readTree(tree))
    }
    original.points.push(await backUpDatabase(original.repository))
    const log = original.repository.log('db')
    await log.putHistory('system', Buffer.from('7123\n'))
    for (const [i, name] of ['00', '01', '02'].entries())
      await log.putSegment('1', name, someBytes(name, 300_000), {
        until: UNTIL,
        ...(i ? { follows: `0${i - 1}` } : {}),
      })
    await copyLog(log, copy.repository.log('db'), true, { ...RUN, warn: () => undefined })
    for (const id of original.points) {
      const reporting = { ...RUN, warn: () => undefined }
      copy.points.push((await copyPoint(testAmbient(), original.repository, copy.repository, id, reporting)).id)
    }
    original.keep()
    copy.keep()
  })
  after(async () => {
    await original.repository.close()
    await copy.repository.close()
    folder.remove()
  })

  for (const [name, own, other] of [
    ['an original', original, copy],
    ['a copy', copy, original],
  ] as const) {
    it(`has it back, ${name}, whatever of packs, index and log was damaged or lost`, async (t) => {
      const seed = chooseSeed()
      t.diagnostic(`seed ${seed}`)
      const random = seededNumbers(seed)
      // A lost beginning of the log is nobody's loss that anything tells, so the test before may have left it without one.
      other.reset()
      for (let turn = 0; turn < TURNS; turn++) {
        own.reset()
        const packs = own.named('packs/')
        const hurt = packs.filter((_, i) => turn === 0 || i === turn % packs.length || random(3) === 0)
        for (const pack of hurt) own.damage(pack, turn === 0 ? 0 : random(4), random)
        // The index as well: then nothing tells any more how long the chunks were.
        if (turn % 2 === 1) for (const segment of own.named('index/')) own.damage(segment, random(3), random)
        for (const piece of own.named('log/')) if (random(2) === 0) own.damage(piece, random(4), random)
        const about = `turn ${turn}, seed ${seed}`
        const { left } = await repair(own.repository, other.repository)
        assert.deepEqual(left, [], about)
        await assertSound(own.repository)
        await assertAll(own)
        assert.deepEqual(await own.repository.planRepair({ ...RUN, readData: true }), { steps: [], left: [] }, about)
        // A prune is rid of what was set aside, and all is still there.
        const plan = await own.repository.planPrune({ ...RUN, expire: [], trimLog: [], weighed: own.points })
        await own.repository.prune(plan, RUN)
        await assertSound(own.repository)
      }
      await assertAll(own)
    })
  }

  it('takes only what it misses, and from points nearby if the other one has not the very same', async () => {
    original.reset()
    copy.reset()
    for (const id of copy.points.slice(0, 2)) {
      const plan = { expire: [{ id, reason: 'test' }], trimLog: [], weighed: copy.points, ...RUN }
      await copy.repository.prune(await copy.repository.planPrune(plan), RUN)
    }
    for (const pack of original.named('packs/')) original.storage.objects.delete(pack)
    // Listings are lost as well, and the third point's copy alone can tell what they were.
    const { left } = await repair(original.repository, copy.repository)
    const whole = (await original.repository.points()).filter(
      ({ id }) => !left.some(({ hurts }) => hurts.some(({ point }) => point === id)),
    )
    assert.deepEqual(
      whole.map(({ id }) => id),
      original.points.slice(2),
    )
    await assertRestores(original.repository, original.points[2] as string, trees[2] as Map<string, string>)

    // With its listing, what is unchanged comes from there, and what was only in the older points is named.
    original.reset()
    const largest = original.named('packs/').sort((a, b) => sizeOf(b) - sizeOf(a))
    for (const pack of largest.slice(0, largest.length / 2)) original.storage.objects.delete(pack)
    const again = await repair(original.repository, copy.repository)
    for (const id of original.points.slice(0, 3)) {
      const { missed } = await restore(original.repository, id).catch(() => ({ missed: [{ path: '(listing)' }] }))
      const named = again.left.flatMap(({ hurts }) =>
        hurts.filter(({ point }) => point === id).flatMap(({ paths }) => paths),
      )
      assert.deepEqual(missed.map(({ path }) => path).sort(), [...new Set(named)].sort())
    }
    function sizeOf(name: string): number {
      return original.storage.objects.get(name)?.length ?? 0
    }
  })

  it('goes on where it was cut short, at any call', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const random = seededNumbers(seed)
    copy.reset()
    for (let left = 0; left < 4; left++) {
      original.reset()
      for (const pack of original.named('packs/')) if (random(2) === 0) original.storage.objects.delete(pack)
      let calls = 0
      const kind = left % 2 === 0 ? 'reject-before' : 'reject-after'
      const isWrite = ({ operation }: { operation: string }) => ['put', 'create', 'delete'].includes(operation)
      const dying = withFaults(original.storage, (call) => (isWrite(call) && calls++ >= left ? { kind } : null))
      const opened = await openTestRepository(dying, original.made.key)
      await repair(opened, copy.repository).then(
        // At most its session could not be cleared away.
        () => assertSound(original.repository),
        (error) => assert.equal(error.code, 'storage-unavailable'),
      )
      await opened.close()
      const report = await repair(original.repository, copy.repository)
      assert.deepEqual(report.left, [], `left ${left}, seed ${seed}`)
      await assertSound(original.repository)
    }
    await assertAll(original)
  })

  it('has what it can where the other one is damaged too, and names the rest', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const random = seededNumbers(seed)
    for (let turn = 0; turn < 3; turn++) {
      original.reset()
      copy.reset()
      for (const pack of original.named('packs/')) if (random(2) === 0) original.damage(pack, random(4), random)
      for (const pack of copy.named('packs/')) if (random(3) === 0) copy.damage(pack, random(4), random)
      const { left } = await repair(original.repository, copy.repository)
      const { problems } = await verify(original.repository)
      const hurt = (list: readonly { hurts: { point: string }[] }[]) =>
        [...new Set(list.flatMap(({ hurts }) => hurts.map(({ point }) => point)))].sort()
      assert.deepEqual(hurt(left), hurt(problems), `turn ${turn}, seed ${seed}`)
    }
    copy.reset()
  })

  it('has a segment back whose loss only the next one told, which is damaged', async () => {
    original.reset()
    copy.reset()
    const log = ['00', '01', '02'].map((name) => `log/db/segments/1/${name}`)
    const [, gone, next] = log as [string, string, string]
    original.storage.objects.delete(gone)
    original.storage.objects.set(next, Buffer.from('damaged'))
    // Where it is lost as well it is not forgotten.
    const there = copy.storage.objects.get(gone) as Buffer
    copy.storage.objects.delete(gone)
    const told = (problems: readonly { object: string; kind: string }[]) =>
      problems.map(({ object, kind }) => ({ object, kind }))
    assert.deepEqual(told((await repair(original.repository, copy.repository)).left), [
      { object: gone, kind: 'missing' },
    ])
    assert.deepEqual(told((await verify(original.repository)).problems), [{ object: gone, kind: 'missing' }])
    original.storage.objects.set(next, Buffer.from('damaged'))
    copy.storage.objects.set(gone, there)
    const { left, fetched } = await repair(original.repository, copy.repository)
    assert.deepEqual(left, [])
    assert.equal(fetched[0]?.logObjects, 2)
    await assertSound(original.repository)
    assert.deepEqual(original.named('log/db/segments/'), log)
  })

  it('has no segment back that was removed on purpose, though the next one is damaged', async () => {
    original.reset()
    copy.reset()
    const trimLog = [{ source: 'db', branch: '1', from: '01', to: '02', reason: 'test' }]
    const plan = await original.repository.planPrune({ ...RUN, expire: [], trimLog, weighed: original.points })
    await original.repository.prune(plan, RUN)
    const held = ['00', '02'].map((name) => `log/db/segments/1/${name}`)
    assert.deepEqual(original.named('log/db/segments/'), held)
    original.storage.objects.set(held[1] as string, Buffer.from('damaged'))
    const { left } = await repair(original.repository, copy.repository)
    assert.deepEqual(left, [])
    assert.deepEqual(original.named('log/db/segments/'), held)
    await assertSound(original.repository)
  })

  it('takes no log of another server, and never replaces what can be read', async () => {
    original.reset()
    copy.reset()
    const other = await createTestRepository(openMemoryStorage(), folder.path)
    await other.repository.log('db').putHistory('system', Buffer.from('9999\n'))
    await other.repository.log('db').putSegment('1', '01', someBytes('else', 1000), { until: UNTIL })
    original.storage.objects.delete('log/db/segments/1/01')
    const { left } = await repair(original.repository, other.repository)
    assert.deepEqual(
      left.map(({ object }) => object),
      ['log/db/segments/1/01'],
    )
    await other.repository.close()
  })

  async function backUpDatabase(repository: Repository): Promise<string> {
    const session = await repository.startPoint(startRequest({ source: 'db', sourceType: 'postgres' }))
    const about = { mode: 0o600, uid: 0, gid: 0, mtime: '0' }
    await session.add({ path: '', type: 'directory', ...about })
    const pages = Buffer.alloc(33 * MIB + 8192)
    for (let at = 0; at < pages.length; at += 8192) pages.writeUInt32LE(at, at)
    const stream = await session.addStream({ path: 'base', type: 'file', size: pages.length, ...about }, 'pages')
    await stream.write(pages)
    await stream.end()
    // What is no relation is cut by its content, in the same point.
    const manifest = someBytes('manifest', 900_000)
    const other = await session.addStream(
      { path: 'manifest', type: 'file', size: manifest.length, ...about },
      'content',
    )
    await other.write(manifest)
    await other.end()
    const point = await session.commit({
      kind: 'full',
      root: '/',
      positions: { systemId: '7123' },
      sourceBytes: 1,
      missed: [],
    })
    return point.id
  }

  async function assertAll({ repository, points }: Place): Promise<void> {
    for (const [i, id] of points.slice(0, 3).entries())
      await assertRestores(repository, id, trees[i] as Map<string, string>)
    const { missed } = await restore(repository, points[3] as string)
    assert.deepEqual(missed, [])
  }
})
