import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { isRegainError, RegainError } from '../../src/errors.ts'
import type { Call, Fault, FaultScript, FaultyStorage, Operation } from '../../src/storage/fault.ts'
import { withFaults } from '../../src/storage/fault.ts'
import { type RandomFaults, randomFaults } from '../../src/storage/fault-script.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import {
  assertRestores,
  assertSameTree,
  assertSound,
  backUp,
  chooseSeed,
  createTestRepository,
  readTree,
  restore,
  someBytes,
  type TestRepository,
  temporaryFolder,
  writeTree,
} from '../support/repository.ts'

/**
 * A repository with one point of a tree that has changed since. Each test makes storage fail somewhere in the next
 * backup, or in a restore; then the store is as before, and what there is must be whole.
 */
describe('storage that fails', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let memory: MemoryStorage
  let storage: FaultyStorage
  let script: FaultScript
  let made: TestRepository
  let kept: Map<string, Buffer>
  let first: { id: string; tree: Map<string, string> }
  let second: Map<string, string>

  before(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    memory = openMemoryStorage()
    script = () => null
    storage = withFaults(memory, (call) => script(call))
    made = await createTestRepository(storage, folder.path, 1)
    writeTree(tree, { a: 'first', 'b/c': someBytes('c', 70_000), 'b/gone': 'gone', d: someBytes('d', 1_100_000) })
    const { point } = await backUp(made.repository, tree)
    first = { id: point.id, tree: readTree(tree) }
    writeTree(tree, { a: 'second', 'b/new': someBytes('new', 300_000) })
    second = readTree(tree)
    kept = new Map(memory.objects)
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  function putBack(): void {
    script = () => null
    memory.objects.clear()
    for (const [name, bytes] of kept) memory.objects.set(name, bytes)
  }

  /** The calls of a piece of work that meets no fault. */
  async function callsOf(work: () => Promise<unknown>): Promise<Call[]> {
    putBack()
    const start = storage.calls.length
    await work()
    return storage.calls.slice(start)
  }

  /** From here on, the faults that `choose` gives for the how-manieth call and the call. */
  function failing(choose: (k: number, call: Call) => Fault | null): void {
    let k = 0
    script = (call) => choose(++k, call)
  }

  /** Points that count are whole, there is the first, and backups go on as if nothing had happened. */
  async function assertUnhurt(about: string, outcome: { id: string } | RegainError): Promise<void> {
    script = () => null
    const points = await made.repository.points()
    const others = points.filter(({ id }) => id !== first.id)
    assert.equal(points.length, others.length + 1, about)
    if (!(outcome instanceof RegainError))
      assert.deepEqual(
        others.map(({ id }) => id),
        [outcome.id],
        about,
      )
    await assertRestores(made.repository, first.id, first.tree)
    for (const { id } of others) await assertRestores(made.repository, id, second)
    const { point } = await backUp(made.repository, tree)
    await assertRestores(made.repository, point.id, second)
    await assertSound(made.repository)
  }

  async function outcomeOf(work: () => Promise<{ point: { id: string } }>): Promise<{ id: string } | RegainError> {
    try {
      return (await work()).point
    } catch (error) {
      if (error instanceof RegainError) return error
      throw error
    }
  }

  /** Whether a point may be visible though its backup was told as failed: its end was written, the answer was lost. */
  const isCommitting = (call: Call) => call.name.startsWith('ends/') || call.name.startsWith('sessions/')

  const FAULTS: Record<string, (k: number) => (now: number, call: Call) => Fault | null> = {
    'call is rejected before it is carried out': (k) => (now) => (now === k ? { kind: 'reject-before' } : null),
    'call is carried out and rejected': (k) => (now) => (now === k ? { kind: 'reject-after' } : null),
    'call and all after it are rejected': (k) => (now) => (now >= k ? { kind: 'reject-before' } : null),
    'write and all after it find the store full': (k) => (now, call) =>
      now >= k && (call.operation === 'put' || call.operation === 'create')
        ? { kind: 'reject-before', error: new RegainError('storage-full', 'No space is left.') }
        : null,
  }

  for (const [what, fault] of Object.entries(FAULTS))
    it(`leaves nothing half done, whichever ${what}`, async () => {
      const calls = await callsOf(() => backUp(made.repository, tree))
      assert.ok(calls.length > 20)
      let failed = 0
      for (let k = 1; k <= calls.length; k++) {
        const about = `${k}: ${calls[k - 1]!.operation} ${calls[k - 1]!.name}`
        putBack()
        failing(fault(k))
        const outcome = await outcomeOf(() => backUp(made.repository, tree))
        if (outcome instanceof RegainError) {
          failed++
          assert.match(outcome.code, /^storage-(unavailable|full)$/, about)
          script = () => null
          if (!isCommitting(calls[k - 1]!)) assert.equal((await made.repository.points()).length, 1, about)
        }
        await assertUnhurt(about, outcome)
      }
      assert.ok(failed > 5, `only ${failed} of ${calls.length} failed`)
    })

  it('is waited for no longer than until the interruption, whichever call hangs', async () => {
    const calls = await callsOf(() => backUp(made.repository, tree))
    for (let k = 1; k <= calls.length; k++) {
      const { operation, name } = calls[k - 1]!
      const about = `${k}: ${operation} ${name}`
      putBack()
      const controller = new AbortController()
      failing((now) => {
        if (now !== k) return null
        setImmediate(() => controller.abort())
        return { kind: 'hang' }
      })
      const outcome = await outcomeOf(() => backUp(made.repository, tree, { signal: controller.signal }))
      // The decorator gives `internal` to a call that has no signal. Those are the commit, which once begun is carried
      // through, and what is cleared away after it.
      const carriedThrough = isCommitting(calls[k - 1]!) || name.startsWith('receipts/') || operation === 'delete'
      if (outcome instanceof RegainError && outcome.code !== 'interrupted')
        assert.ok(outcome.code === 'internal' && carriedThrough, `${about}: ${outcome.code} ${outcome.message}`)
      await assertUnhurt(about, outcome)
    }
  })

  it('leaves nothing half done, whatever fails at random', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const rounds = Number(process.env.REGAIN_SOAK_ROUNDS ?? 25)
    let failures = 0
    for (let round = 0; round < rounds; round++) {
      const kinds: RandomFaults['kinds'] = ['reject-before', 'reject-after', 'flip-bit', 'truncate']
      putBack()
      script = randomFaults({ seed: `${seed} ${round}`, rate: 0.08, kinds })
      const outcome = await outcomeOf(() => backUp(made.repository, tree))
      if (outcome instanceof RegainError) failures++
      await assertUnhurt(`seed ${seed}, round ${round}`, outcome)
    }
    t.diagnostic(`${failures} of ${rounds} backups failed`)
  })

  const READ_FAULTS: Record<string, (call: Call) => Fault | null> = {
    rejects: () => ({ kind: 'reject-before' }),
    'gives a wrong bit': (call) => (call.operation === 'get' ? { kind: 'flip-bit', bit: 8 * 500 + call.nth } : null),
    'ends early': (call) => (call.operation === 'get' ? { kind: 'truncate', keepBytes: 60 + call.nth } : null),
  }
  for (const [what, fault] of Object.entries(READ_FAULTS))
    it(`never makes a restore write wrong bytes, whichever call ${what}`, async () => {
      const operations: Operation[] = ['get', 'list', 'size', 'create', 'delete']
      const calls = await callsOf(() => restore(made.repository, first.id))
      for (let k = 1; k <= calls.length; k++) {
        putBack()
        failing((now, call) => (now === k && operations.includes(call.operation) ? fault(call) : null))
        try {
          const { tree: restored, missed } = await restore(made.repository, first.id)
          const expected = new Map(first.tree)
          for (const { path, reason } of missed) {
            assert.equal(reason, 'damaged')
            expected.delete(path)
          }
          assertSameTree(restored, expected)
        } catch (error) {
          assert.ok(isRegainError(error) && error.code !== 'internal', String(error))
        }
        script = () => null
        await assertRestores(made.repository, first.id, first.tree)
      }
    })

  it('is told of as it is by verification, not as damage', async () => {
    const calls = await callsOf(() => assertSound(made.repository))
    for (let k = 1; k <= calls.length; k++) {
      putBack()
      failing((now) => (now === k ? { kind: 'reject-before' } : null))
      await assert.rejects(assertSound(made.repository), { code: 'storage-unavailable' }, calls[k - 1]!.name)
    }
  })
})
