import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { RepairPlan } from '../../src/repository/api.ts'
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
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  verify,
  writeTree,
} from '../support/repository.ts'

const RUN = { signal: uninterrupted(), progress: () => undefined }
const MUTATIONS = 12

describe('a repository that is repaired', () => {
  const folder = temporaryFolder()
  const tree = join(folder.path, 'tree')
  const storage = openMemoryStorage()
  let sound: Map<string, Buffer>
  let made: TestRepository
  const points: { id: string; tree: Map<string, string> }[] = []

  before(async () => {
    made = await createTestRepository(storage, folder.path)
    writeTree(tree, { 'a/large': someBytes('large', 3_000_000), b: someBytes('b', 400_000) })
    writeTree(tree, Object.fromEntries(numbers(60).map((i) => [`many/${i}`, `file ${i}`])))
    for (const change of ['one', 'two']) {
      writeTree(tree, { b: change, [`only/${change}`]: someBytes(change, 50_000) })
      const { point } = await backUp(made.repository, tree)
      points.push({ id: point.id, tree: readTree(tree) })
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

  const plan = () => made.repository.planRepair({ ...RUN, readData: true })

  async function repair(): Promise<RepairPlan> {
    const planned = await plan()
    await made.repository.repair(planned, RUN)
    return planned
  }

  it('needs nothing if it is sound', async () => {
    assert.deepEqual(await plan(), { steps: [], left: [] })
  })

  it('is as it was if its index was removed, or damaged', async () => {
    for (const damage of [(name: string) => void storage.objects.delete(name), (name: string) => flip(name, 200)]) {
      for (const name of named('index/')) damage(name)
      const before = new Map(storage.objects)
      const { steps, left } = await plan()
      assert.deepEqual([...storage.objects], [...before], 'a plan changes nothing')
      assert.deepEqual(left, [])
      assert.deepEqual(new Set(steps[0]?.objects), new Set(named('packs/')))
      await repair()
      await assertSound(made.repository)
      assert.deepEqual(await plan(), { steps: [], left: [] })
      const next = await backUp(made.repository, tree)
      assert.equal(next.point.bytes.new, 0)
      for (const { id, tree } of points) await assertRestores(made.repository, id, tree)
    }
  })

  it('keeps an index segment of a version that it does not know', async () => {
    const name = `index/${'0'.repeat(64)}`
    // Its bytes give its name: nobody changed it.
    const bytes = Buffer.from(storage.objects.get(named('index/')[0]!)!)
    bytes[7] = 2
    const known = `index/${createHash('sha256').update(bytes).digest('hex')}`
    storage.objects.set(known, bytes)
    storage.objects.set(name, bytes)
    const { steps, left } = await repair()
    assert.deepEqual(
      steps.map(({ action, objects }) => ({ action, objects })),
      [{ action: 'remove-segments', objects: [name] }],
    )
    assert.deepEqual(
      left.map(({ object }) => object),
      [known],
    )
    assert.ok(storage.objects.has(known))
  })

  it('keeps an index segment that only looked damaged when the plan was made', async () => {
    const name = named('index/')[0]!
    flip(name, 200)
    const planned = await plan()
    flip(name, 200)
    await made.repository.repair(planned, RUN)
    assert.ok(storage.objects.has(name))
    await assertSound(made.repository)
  })

  it('of any damage to packs, has a backup of the same source restored byte by byte', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const random = seededNumbers(seed)
    for (let turn = 0; turn < MUTATIONS; turn++) {
      beforeTurn()
      const hurt = named('packs/').filter((_, i) => i === turn % named('packs/').length || random(3) === 0)
      for (const name of hurt) damage(name, random(4))
      // The index as well: then a pack whose own directory is hurt is described nowhere.
      if (random(3) === 0) for (const name of named('index/')) damage(name, random(3))
      const about = `turn ${turn}: ${hurt.join(', ')}, seed ${seed}`
      await repair()
      const { point } = await backUp(made.repository, tree)
      const expected = points[1]!.tree
      await assertRestores(made.repository, point.id, expected)
      const { problems } = await verify(made.repository)
      for (const { hurts } of problems)
        assert.ok(!hurts.some((one) => one.point === point.id), `${about}: ${JSON.stringify(problems)}`)
      // What is told as mended is mended: the older points, where all that they need is in the source.
      const again = await restore(made.repository, points[1]!.id).catch(() => null)
      const isNamed = problems.some(({ hurts }) => hurts.some((one) => one.point === points[1]!.id))
      assert.equal(again === null || again.missed.length > 0, isNamed, about)
    }

    function beforeTurn(): void {
      storage.objects.clear()
      for (const [name, bytes] of sound) storage.objects.set(name, bytes)
    }

    function damage(name: string, way: number): void {
      const { length } = storage.objects.get(name)!
      if (way === 0) storage.objects.delete(name)
      else if (way === 1) storage.objects.set(name, storage.objects.get(name)!.subarray(0, random(length)))
      else flip(name, way === 2 ? random(length) : length - 1 - random(Math.min(length, 200)))
    }
  })

  it('says what is hurt until a backup has mended it, and then no more', async () => {
    const largest = largestPack()
    flip(largest, 1_000_000)
    const { steps, left } = await repair()
    assert.deepEqual(
      steps.map(({ action, objects }) => ({ action, objects })),
      [{ action: 'set-aside-packs', objects: [largest] }],
    )
    assert.deepEqual(
      left.map(({ object, hurts }) => [object, hurts.map(({ point, paths }) => [point, paths])]),
      [[largest, points.map(({ id }) => [id, ['a/large']])]],
    )
    assert.match(left[0]!.advice, /regain backup shop/)
    assert.deepEqual(await plan(), { steps: [], left })
    // What can be read of it still is.
    assert.deepEqual(
      (await restore(made.repository, points[0]!.id)).missed.map(({ path }) => path),
      ['a/large'],
    )
    await backUp(made.repository, tree)
    await assertSound(made.repository)
    for (const { id, tree } of points) await assertRestores(made.repository, id, tree)
  })

  it('is rid of a damaged pack by the next prune, once what it held is stored again, and not before', async () => {
    const hurt = largestPack()
    flip(hurt, 1_000_000)
    await repair()
    const prune = async () => {
      const weighed = (await made.repository.points()).map(({ id }) => id)
      const planned = await made.repository.planPrune({ ...RUN, expire: [], trimLog: [], weighed })
      await made.repository.prune(planned, RUN)
    }
    await prune()
    assert.ok(storage.objects.has(hurt))
    await backUp(made.repository, tree)
    await prune()
    assert.ok(!storage.objects.has(hurt))
    await assertSound(made.repository)
    for (const { id, tree } of points) await assertRestores(made.repository, id, tree)
  })

  it('does not have a damaged pack indexed again, when its segment is lost after it was set aside', async () => {
    const hurt = largestPack()
    flip(hurt, 1_000_000)
    await repair()
    for (const name of named('index/')) storage.objects.delete(name)
    const { point } = await backUp(made.repository, tree)
    assert.ok(point.bytes.new > 2_000_000, 'what it held was stored again')
    await assertRestores(made.repository, point.id, points[1]!.tree)
  })

  it('is rid of a damaged pin, which kept every prune from removing anything', async () => {
    const reader = await made.repository.openPoint(points[0]!.id, RUN)
    const [pin] = named('pins/') as [string]
    const sound = storage.objects.get(pin)!
    flip(pin, sound.length - 10)
    const request = { ...RUN, expire: [], trimLog: [], weighed: [] }
    await assert.rejects(made.repository.planPrune(request), { code: 'repository-damaged' })
    const planned = await plan()
    assert.deepEqual(
      planned.steps.map(({ action, objects }) => ({ action, objects })),
      [{ action: 'remove-pins', objects: [pin] }],
    )
    // One that only looked damaged stays.
    const hurt = storage.objects.get(pin)!
    storage.objects.set(pin, sound)
    await made.repository.repair(planned, RUN)
    assert.ok(storage.objects.has(pin))
    storage.objects.set(pin, hurt)
    await made.repository.repair(planned, RUN)
    assert.deepEqual(named('pins/'), [])
    await made.repository.planPrune(request)
    await reader.close()
    await assertSound(made.repository)
  })

  for (const loss of ['removed', 'damaged', 'removed, and the index with it'])
    it(`takes backups and prunes again after its newest generation was ${loss}`, async () => {
      for (const name of named('generations/'))
        if (loss === 'damaged') flip(name, 100)
        else storage.objects.delete(name)
      if (loss.includes('index')) for (const name of named('index/')) storage.objects.delete(name)
      await assert.rejects(backUp(made.repository, tree), { code: 'repository-damaged' })
      const { steps } = await plan()
      assert.deepEqual(
        steps.map(({ action }) => action),
        ['mark-all-packs'],
      )
      await repair()
      await repair()
      await assertSound(made.repository)
      // Nothing that was there may be reused: somebody may still be about to remove it.
      const { point } = await backUp(made.repository, tree)
      assert.ok(point.bytes.new >= point.bytes.source)
      for (let round = 0; round < 3; round++) {
        const weighed = (await made.repository.points()).map(({ id }) => id)
        const planned = await made.repository.planPrune({ ...RUN, expire: [], trimLog: [], weighed })
        await made.repository.prune(planned, RUN)
      }
      for (const { id, tree } of points) await assertRestores(made.repository, id, tree)
      await assertRestores(made.repository, point.id, readTree(tree))
      await assertSound(made.repository)
      assert.equal((await backUp(made.repository, tree)).point.bytes.new < point.bytes.new, true)
    })

  it('has its own programs back', async () => {
    flip('recover.py', 100)
    storage.objects.delete('FORMAT.txt')
    const { left } = await repair()
    assert.deepEqual(left, [])
    await assertSound(made.repository)
  })

  it('has the receipts of its points back', async () => {
    const [first, second] = named('receipts/') as [string, string]
    flip(first, storage.objects.get(first)!.length - 5)
    storage.objects.delete(second)
    const { steps, left } = await repair()
    assert.deepEqual([steps.map(({ action }) => action), left], [['write-receipts'], []])
    await assertSound(made.repository)
    assert.deepEqual(named('sessions/').length, points.length, 'its session is cleared away')
  })

  it('says what to do about what it can not mend', async () => {
    const key = named('keys/')[0]!
    flip(key, 300)
    flip(named('ends/')[0]!, 150)
    const { steps, left } = await repair()
    assert.deepEqual(steps, [])
    assert.match(left.find(({ object }) => object === key)!.advice, /regain key add shop KEY/)
    assert.match(left.find(({ object }) => object.startsWith('ends/'))!.advice, /regain replicate shop.*--accept-loss/)
  })

  it('gives up points that are lost only when it is told to, and then a prune goes on', async () => {
    const request = { ...RUN, expire: [], trimLog: [], weighed: [] }
    const [older, newer] = points as [(typeof points)[0], (typeof points)[0]]
    for (const damage of [
      () => flip(`ends/${older.id}`, 150),
      () => void storage.objects.delete(`ends/${older.id}`),
      () => void storage.objects.delete(`sessions/${older.id}`),
    ]) {
      storage.objects.clear()
      for (const [name, bytes] of sound) storage.objects.set(name, bytes)
      assert.deepEqual(await made.repository.giveUpLostPoints(RUN.signal), [], 'nothing is lost')
      damage()
      await repair()
      await assert.rejects(made.repository.planPrune(request), { code: 'repository-damaged' })
      assert.deepEqual(await made.repository.giveUpLostPoints(RUN.signal), [older.id])
      await made.repository.prune(await made.repository.planPrune(request), RUN)
      await assertSound(made.repository)
      await assertRestores(made.repository, newer.id, newer.tree)
    }
  })

  it('is never worse for a repair that dies at any step', async () => {
    const hurt = largestPack()
    const beforeEachStep = () => {
      storage.objects.clear()
      for (const [name, bytes] of sound) storage.objects.set(name, bytes)
      for (const name of named('index/')) flip(name, 200)
      flip(hurt, 1_000_000)
    }
    for (const kind of ['reject-before', 'reject-after'] as const)
      for (let left = 0; left < 4; left++) {
        beforeEachStep()
        const planned = await plan()
        let writes = 0
        const isWrite = ({ operation }: { operation: string }) => ['put', 'create', 'delete'].includes(operation)
        const dying = withFaults(storage, (call) => (isWrite(call) && writes++ >= left ? { kind } : null))
        const opened = await openTestRepository(dying, made.key)
        await assert.rejects(opened.repair(planned, RUN), { code: 'storage-unavailable' })
        await opened.close()
        const { problems } = await verify(made.repository)
        for (const { object, hurts } of problems) assert.ok(hurts.length === 0 || object === hurt, object)
        await repair()
        const { point } = await backUp(made.repository, tree)
        await assertRestores(made.repository, point.id, points[1]!.tree)
      }
  })

  function named(prefix: string): string[] {
    return [...storage.objects.keys()].filter((name) => name.startsWith(prefix)).sort()
  }

  function largestPack(): string {
    return named('packs/').sort((a, b) => storage.objects.get(b)!.length - storage.objects.get(a)!.length)[0]!
  }

  function flip(name: string, offset: number): void {
    const bytes = Buffer.from(storage.objects.get(name)!)
    bytes[offset] = bytes[offset]! ^ 1
    storage.objects.set(name, bytes)
  }
})

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}
