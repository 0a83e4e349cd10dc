import assert from 'node:assert/strict'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  readTree,
  someBytes,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  writeTree,
} from '../../../test/support/repository.ts'
import { isRegainError } from '../../errors.ts'
import { type FaultScript, withFaults } from '../../storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../../storage/memory.ts'
import type { PruneReport, Repository } from '../api.ts'
import { endName, holdName, PREFIX, sessionName } from '../format/object-names.ts'

describe('a hold', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let memory: MemoryStorage
  let script: FaultScript
  let made: TestRepository
  let repository: Repository

  beforeEach(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    memory = openMemoryStorage()
    script = () => null
    const storage = withFaults(memory, (call) => script(call))
    made = await createTestRepository(storage, folder.path, 1)
    repository = made.repository
  })
  afterEach(async () => {
    await repository.close()
    folder.remove()
  })

  const { signal } = new AbortController()
  async function prune(expire: string[]): Promise<PruneReport> {
    const weighed = (await repository.points()).map(({ id }) => id)
    const plan = await repository.planPrune({
      expire: expire.map((id) => ({ id, reason: 'a test' })),
      trimLog: [],
      weighed,
      signal,
      progress: () => {},
    })
    return repository.prune(plan, { signal: uninterrupted(), progress: () => {} })
  }
  /** Runs `action` before the nth call of what is done until it is reset. */
  const beforeCall = (nth: number, action: () => Promise<void>) => {
    let calls = 0
    script = () => {
      if (++calls !== nth) return null
      script = () => null
      return { kind: 'call', when: 'before', run: action }
    }
  }
  const countCalls = async (action: () => Promise<unknown>): Promise<number> => {
    let calls = 0
    script = () => {
      calls++
      return null
    }
    await action()
    script = () => null
    return calls
  }
  const expiredOf = (id: string) => [...memory.objects.keys()].filter((name) => name.startsWith(PREFIX.expired + id))
  /** Null: refused. */
  const hold = (id: string): Promise<boolean | null> =>
    repository.hold(id, '').catch((error: unknown) => {
      assert.ok(isRegainError(error, 'point-not-found') || isRegainError(error, 'precondition-failed'), String(error))
      return null
    })
  async function twoPoints(): Promise<{ id: string; files: Map<string, string> }> {
    writeTree(tree, { a: someBytes('first', 300_000) })
    const { point } = await backUp(repository, tree)
    const files = readTree(tree)
    writeTree(tree, { a: someBytes('second', 300_000) })
    await backUp(repository, tree)
    return { id: point.id, files }
  }

  it('keeps its point from every removal until it is released', async () => {
    const { id, files } = await twoPoints()
    assert.equal(await repository.hold(id, 'case 4711'), true)
    assert.equal(await repository.hold(id, 'another'), false)
    assert.deepEqual(
      (await repository.holds()).map(({ point, reason }) => [point, reason]),
      [[id, 'case 4711']],
    )
    const report = await prune([id])
    assert.deepEqual(report.expired, [])
    assert.match(report.waits.join(), /has been held/)
    assert.deepEqual(expiredOf(id), [])
    await assertRestores(repository, id, files)

    assert.equal(await repository.release(id), true)
    assert.equal(await repository.release(id), false)
    assert.deepEqual((await prune([id])).expired, [id])
    await assertSound(repository)
    assert.equal((await repository.points()).length, 1)
  })

  it('is refused for a point that there is not', async () => {
    await twoPoints()
    await assert.rejects(repository.hold('0'.repeat(32), ''), (error) => isRegainError(error, 'point-not-found'))
    assert.deepEqual(await repository.holds(), [])
  })

  it('that cannot be read holds all the same', async () => {
    const { id, files } = await twoPoints()
    await repository.hold(id, 'why')
    memory.objects.set(holdName(id), Buffer.alloc(200))
    assert.equal((await repository.holds())[0]?.point, id)
    await prune([id])
    await assertRestores(repository, id, files)
  })

  it('granted at any moment of a removal is kept; refused, it leaves a removal that the next prune completes', async () => {
    let granted = 0
    for (let nth = 1, ended = false; !ended; nth++) {
      const { id, files } = await twoPoints()
      let isHeld: boolean | null = null
      const weighed = (await repository.points()).map((point) => point.id)
      const expire = [{ id, reason: 'a test' }]
      const plan = await repository.planPrune({ expire, trimLog: [], weighed, signal, progress: () => {} })
      let isAsked = false
      beforeCall(nth, async () => {
        isAsked = true
        isHeld = await hold(id)
      })
      await repository.prune(plan, { signal, progress: () => {} })
      script = () => null
      // Refused in the middle: then asking again tells.
      isHeld ??= await hold(id)
      ended = isAsked && isHeld === null
      if (isHeld !== null) {
        granted++
        assert.deepEqual(expiredOf(id), [])
        await prune([])
        await assertRestores(repository, id, files)
        await repository.release(id)
      }
      await prune(
        (await repository.points())
          .map((point) => point.id)
          .filter((other) => other !== id)
          .slice(0, -1),
      )
    }
    assert.ok(granted > 0)
    await assertSound(repository)
  })

  it('that a removal overtakes at any step of its own is refused, or kept', async () => {
    const { id: counted } = await twoPoints()
    const steps = await countCalls(() => repository.hold(counted, ''))
    await repository.release(counted)
    for (let nth = 1; nth <= steps; nth++) {
      const { id, files } = await twoPoints()
      const weighed = (await repository.points()).map((point) => point.id)
      const expire = [{ id, reason: 'a test' }]
      const plan = await repository.planPrune({ expire, trimLog: [], weighed, signal, progress: () => {} })
      beforeCall(nth, async () => {
        await repository.prune(plan, { signal, progress: () => {} })
      })
      const isHeld = (await hold(id)) !== null
      script = () => null
      await prune([])
      const isThere = (await repository.points()).some((point) => point.id === id)
      assert.equal(isThere, isHeld)
      if (isHeld) await assertRestores(repository, id, files)
      await repository.release(id)
    }
    await assertSound(repository)
  })

  it('that was told as granted stays, whoever else holds or removes the point at any step of the others', async () => {
    const { id, files } = await twoPoints()
    const steps = await countCalls(() => repository.hold(id, ''))
    await repository.release(id)
    const weighed = (await repository.points()).map((point) => point.id)
    const expire = [{ id, reason: 'a test' }]
    const plan = await repository.planPrune({ expire, trimLog: [], weighed, signal, progress: () => {} })
    // What has to do with the point; the packs are another matter.
    const only = { ...plan, packs: { total: 0, remove: [], repack: [] } }
    const start = new Map(memory.objects)
    let granted = 0
    for (let ofFirst = 1; ofFirst <= steps; ofFirst++)
      for (let ofPrune = 1, isAsked = true; isAsked; ofPrune++) {
        memory.objects.clear()
        for (const [name, bytes] of start) memory.objects.set(name, bytes)
        isAsked = false
        let second: boolean | null = null
        // A prune comes in the middle of the first hold, and the second in the middle of the prune.
        beforeCall(ofFirst, async () => {
          beforeCall(ofPrune, async () => {
            isAsked = true
            second = await hold(id)
          })
          await repository.prune(only, { signal, progress: () => {} })
        })
        const first = await hold(id)
        script = () => null
        await repository.prune(only, { signal, progress: () => {} })
        if (first === null && second === null) continue
        granted++
        assert.equal(await repository.standing(id), 'counts')
      }
    assert.ok(granted > 0)
    await assertRestores(repository, id, files)
    await assertSound(repository)
  })

  it('can be had again of a point whose removal gave way to one before, or died a week ago before it removed anything', async () => {
    const { id, files } = await twoPoints()
    makerIsDead()
    const steps = await countCalls(() => prune([]))
    let died = 0
    for (let nth = 1; nth <= steps; nth++) {
      const all = (await repository.points()).map((point) => point.id)
      const plan = await repository.planPrune({
        expire: [{ id, reason: 'a test' }],
        trimLog: [],
        weighed: all,
        signal,
        progress: () => {},
      })
      let call = 0
      // From then on nothing it does has an effect: it is dead.
      script = () => (++call >= nth ? { kind: 'reject-before' } : null)
      await repository.prune(plan, { signal, progress: () => {} }).catch(() => undefined)
      script = () => null
      if (!(await repository.points()).some((point) => point.id === id)) break
      if (expiredOf(id).length > 0) {
        died++
        assert.equal(await hold(id), null)
        await repository.release(id)
        passDays(8)
      }
      assert.equal(await hold(id), true)
      await prune([id])
      await prune([])
      assert.deepEqual(expiredOf(id), [])
      await assertRestores(repository, id, files)
      await repository.release(id)
      await assertMissed(id)
    }
    assert.ok(died > 0)
  })

  it('is not granted while what a dead process asked for may still be carried out, and explained if it is', async () => {
    const { id } = await twoPoints()
    makerIsDead()
    const expire = [{ id, reason: 'a test' }]
    const weighed = (await repository.points()).map((point) => point.id)
    const plan = await repository.planPrune({ expire, trimLog: [], weighed, signal, progress: () => {} })
    let isDead = false
    script = (call) => {
      isDead ||= call.operation === 'delete' && call.name === sessionName(id)
      return isDead ? { kind: 'reject-before' } : null
    }
    await assert.rejects(repository.prune(plan, { signal, progress: () => {} }))
    script = () => null
    assert.equal(await hold(id), null)
    await prune([])
    assert.equal(expiredOf(id).length, 1)
    // Its last call arrives.
    memory.objects.delete(sessionName(id))
    await prune([])
    await assertSound(repository)
    assert.equal((await repository.points()).length, 1)
  })

  /** Whoever works here is dead to whoever asks. */
  function makerIsDead(): void {
    made.ambient.process = { identity: 'here 1', isAlive: () => false }
  }
  function passDays(days: number): void {
    const { now } = made.ambient
    made.ambient.now = () => now() + days * 24 * 3_600_000
  }

  /** By verification, should the store lose it. */
  async function assertMissed(id: string): Promise<void> {
    const kept = new Map(memory.objects)
    memory.objects.delete(sessionName(id))
    memory.objects.delete(endName(id))
    const { problems } = await repository.verify({ readData: false, signal, progress: () => {} })
    assert.ok(problems.some(({ detail }) => detail.includes(id)))
    for (const [name, bytes] of kept) memory.objects.set(name, bytes)
  }

  it('that came too late is cleared away', async () => {
    const { id } = await twoPoints()
    await repository.hold(id, '')
    const record = memory.objects.get(holdName(id)) as Buffer
    await repository.release(id)
    await prune([id])
    memory.objects.set(holdName(id), record)
    await prune([])
    assert.deepEqual(await repository.holds(), [])
  })
})
