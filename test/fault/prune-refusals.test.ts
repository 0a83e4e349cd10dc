import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRegainError, RegainError } from '../../src/errors.ts'
import type { Repository } from '../../src/repository/api.ts'
import type { Call, Fault } from '../../src/storage/fault.ts'
import {
  type AgedRepository,
  addPoint,
  another,
  assertAllHold,
  assertHolds,
  atCall,
  callsOf,
  makeAgedRepository,
  prune,
  someOf,
} from '../support/aged-repository.ts'
import { assertSound, chooseSeed, temporaryFolder } from '../support/repository.ts'

/**
 * A prune that has everything to do (expiry, fencing, pins, repack, removal, log, index), and a store that from one of its calls on
 * refuses. Single failures are in prune-faults.test.ts.
 */
describe('a prune whose store refuses from one call on', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  /** Later than all who died. */
  let next: Repository

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    next = await another(aged, 24 * 365)
  })
  after(async () => {
    await next.close()
    await aged.close()
    folder.remove()
  })

  const work = () => prune(aged.late, { expire: [aged.doomed.id] })

  it('has everything to do when it refuses nothing', async () => {
    aged.putBack()
    const report = await prune(next, { expire: [aged.doomed.id] })
    assert.deepEqual(report.expired, [aged.doomed.id])
    const { packs, logSegments, sessions, pins, waits } = report
    assert.ok(packs.removed > 0 && packs.repacked > 0 && logSegments > 0 && sessions > 0 && pins > 0)
    assert.deepEqual(waits, [])
    await assertLeftClean('in peace')
  })

  const isWrite = ({ operation }: Call) => operation === 'put' || operation === 'create'
  const FAULTS: Record<string, { count: number; fault: (k: number) => (now: number, call: Call) => Fault | null }> = {
    // To the store, this is what kill -9 is.
    'everything, as to a process that is killed': {
      count: 40,
      fault: (k) => (now) => (now >= k ? { kind: 'reject-before' } : null),
    },
    'writes, as it is full': {
      count: 12,
      fault: (k) => (now, call) =>
        now >= k && isWrite(call)
          ? { kind: 'reject-before', error: new RegainError('storage-full', 'No space is left.') }
          : null,
    },
    'deletes, as all is immutable': {
      count: 12,
      fault: (k) => (now, call) =>
        now >= k && call.operation === 'delete'
          ? { kind: 'reject-before', error: new RegainError('storage-locked', 'It is locked.') }
          : null,
    },
    'deletes, as they are not allowed': {
      count: 12,
      fault: (k) => (now, call) =>
        now >= k && call.operation === 'delete'
          ? { kind: 'reject-before', error: new RegainError('storage-denied', 'You may not.') }
          : null,
    },
  }

  for (const [what, { count, fault }] of Object.entries(FAULTS))
    it(`${what}: every point is whole, and the next one completes it`, async (t) => {
      const calls = await callsOf(aged, work)
      t.diagnostic(`seed ${seed}, ${calls.length} calls`)
      let failed = 0
      for (const k of someOf(calls.length, count, seed)) {
        const { operation, name } = calls[k - 1] as Call
        const about = `${k}: ${operation} ${name}, seed ${seed}`
        try {
          aged.putBack()
          atCall(aged, fault(k))
          if (!(await succeeds(work))) failed++
          aged.setScript(() => null)
          await assertAllHold(next, aged)
          await prune(next, { expire: [aged.doomed.id] })
          await assertLeftClean(about)
        } catch (error) {
          throw new Error(`${about}: ${(error as Error).message}`, { cause: error })
        }
      }
      t.diagnostic(`${failed} failed`)
      assert.ok(failed > 0 || what.includes('immutable'))
    })

  /** The prune failed as the store did, or bore it. */
  async function succeeds(run: () => Promise<unknown>): Promise<boolean> {
    try {
      await run()
      return true
    } catch (error) {
      const codes = ['storage-unavailable', 'storage-full', 'storage-locked', 'storage-denied'] as const
      if (!codes.some((code) => isRegainError(error, code))) throw error
      return false
    }
  }

  /** What was expired is gone, what was kept is whole, nothing is left over, and a backup works. */
  async function assertLeftClean(about: string): Promise<void> {
    // One that found the work of another half done may leave what that one marked.
    await prune(next, { expire: [] })
    assert.deepEqual(await assertAllHold(next, aged), new Set(aged.kept.keys()), about)
    const plan = await next.planPrune({
      expire: [],
      trimLog: [],
      weighed: [],
      signal: new AbortController().signal,
      progress: () => undefined,
    })
    assert.deepEqual([plan.packs.remove, plan.packs.repack, plan.sessions, plan.pins], [[], [], [], []], about)
    await assertSound(next)
    await assertHolds(next, await addPoint(next, aged.next), aged.next)
  }
})
