import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { PrunePlan } from '../../src/repository/api.ts'
import type { Fault } from '../../src/storage/fault.ts'
import { type FaultyRepository, faultyRepository } from '../support/faulty-repository.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  readTree,
  someBytes,
  uninterrupted,
  writeTree,
} from '../support/repository.ts'

const FILES = [1, 2, 3, 4, 5]

/** A prune that expires a point, writes a pack anew, removes packs and merges the index, made to fail at each of its calls. */
describe('a prune whose storage fails', () => {
  let made: FaultyRepository
  let kept: Map<string, Buffer>
  let plan: PrunePlan
  let point: { id: string; tree: Map<string, string> }
  let victim: string

  before(async () => {
    made = await faultyRepository()
    const tree = join(made.folder, 'tree')
    writeTree(tree, Object.fromEntries(FILES.map((i) => [`f${i}`, someBytes(`f${i}`, 60_000)])))
    victim = (await backUp(made.repository, tree)).point.id
    for (const i of FILES.slice(1)) rmSync(join(tree, `f${i}`))
    for (let more = 0; more < 8; more++)
      await backUp(made.repository, tree, { source: `other ${more}`.replace(' ', '-') })
    point = { id: (await backUp(made.repository, tree)).point.id, tree: readTree(tree) }
    kept = new Map(made.memory.objects)
    plan = await planOf([victim])
    assert.ok(plan.packs.repack.length > 0 && plan.packs.remove.length > 0)
  })
  after(async () => {
    await made.close()
  })

  function putBack(): void {
    made.script = () => null
    made.putBack(kept)
  }

  async function planOf(expire: string[]): Promise<PrunePlan> {
    return made.repository.planPrune({
      expire: expire.map((id) => ({ id, reason: 'a test' })),
      trimLog: [],
      weighed: [],
      signal: uninterrupted(),
      progress: () => undefined,
    })
  }

  function prune(planned: PrunePlan) {
    return made.repository.prune(planned, { signal: uninterrupted(), progress: () => undefined })
  }

  async function fails(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work()
      return false
    } catch (error) {
      assert.ok(isRegainError(error, 'storage-unavailable'), String(error))
      return true
    }
  }

  const FAULTS: Record<string, (now: number, k: number) => Fault | null> = {
    'is the last that is carried out': (now, k) => (now >= k ? { kind: 'reject-before' } : null),
    'is carried out and told as failed': (now, k) => (now === k ? { kind: 'reject-after' } : null),
  }

  for (const [what, fault] of Object.entries(FAULTS))
    it(`leaves every point whole, and nothing that the next one does not clear away, whichever call ${what}`, async (t) => {
      let failed = 0
      for (let k = 1; ; k++) {
        putBack()
        let now = 0
        made.script = () => fault(++now, k)
        if (await fails(() => prune(plan))) failed++
        const calls = now
        made.script = () => null
        await assertRestores(made.repository, point.id, point.tree)
        await assertSound(made.repository)
        const points = await made.repository.points()
        await prune(await planOf(points.some(({ id }) => id === victim) ? [victim] : []))
        await assertRestores(made.repository, point.id, point.tree)
        await assertSound(made.repository)
        const next = await planOf([])
        assert.deepEqual(
          [next.packs.remove, next.packs.repack, next.expire, next.sessions],
          [[], [], [], []],
          `call ${k}`,
        )
        if (calls < k) break
      }
      t.diagnostic(`${failed} prunes failed`)
      assert.ok(failed > 20)
    })
})
