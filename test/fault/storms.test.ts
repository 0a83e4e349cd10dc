import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { RegainError } from '../../src/errors.ts'
import type { Repository } from '../../src/repository/api.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { type Call, type Fault, withFaults } from '../../src/storage/fault.ts'
import { markNotApplied } from '../../src/storage/not-applied.ts'
import { withRetries } from '../../src/storage/retry.ts'
import type { Waiting } from '../../src/storage/waiting.ts'
import {
  type AgedRepository,
  addPoint,
  another,
  assertAllHold,
  assertHolds,
  clockOff,
  makeAgedRepository,
  prune,
} from '../support/aged-repository.ts'
import { assertSound, chooseSeed, openTestRepository, seededNumbers, temporaryFolder } from '../support/repository.ts'

/**
 * A store that turns most requests away for a while (500, 503, 429: drivers say `storage-unavailable`, and of those that were
 * not carried out for certain, that they were not), behind the retries of every remote store. Which status becomes which is tested
 * with each driver.
 */
describe('a storm of errors', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  let calm: Repository

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    calm = await another(aged, 24 * 365)
  })
  after(async () => {
    await calm.close()
    await aged.close()
    folder.remove()
  })

  it('in which every third request is turned away is borne by backup, prune and restore', async (t) => {
    const random = seededNumbers(`${seed} refused`)
    const { repository, counts } = await stormy(() => (random(3) === 0 ? refused() : null))
    const id = await addPoint(repository, aged.next)
    await prune(repository, { expire: [aged.doomed.id] })
    await assertAllHold(repository, aged)
    assert.ok(counts.faults > counts.calls / 4)
    t.diagnostic(`seed ${seed}, ${counts.faults} of ${counts.calls} calls were turned away`)
    await assertCalm(id)
    await repository.close()
  })

  it('in which answers get lost costs at most the backup, and says so', async (t) => {
    let failed = 0
    for (let round = 0; round < 12; round++) {
      const random = seededNumbers(`${seed} ${round}`)
      const kinds: (() => Fault)[] = [refused, () => ({ kind: 'reject-after' }), () => ({ kind: 'reject-before' })]
      const { repository } = await stormy(() => (random(4) === 0 ? (kinds[random(3)] as () => Fault)() : null))
      const id = await unlessAway(() => addPoint(repository, aged.next))
      if ((await unlessAway(() => prune(repository, { expire: [aged.doomed.id] }))) === null) failed++
      if (id === null) failed++
      await repository.close()
      await assertCalm(id)
    }
    t.diagnostic(`seed ${seed}, ${failed} of 24 failed`)
  })

  it('that does not end is given up after minutes, and leaves all as it was', async () => {
    const { repository, storm } = await stormy(() => null)
    for (const fault of [refused, () => ({ kind: 'reject-before' }) as const]) {
      storm.script = fault
      await assert.rejects(addPoint(repository, aged.next), { code: 'storage-unavailable' })
      await assert.rejects(prune(repository, { expire: [aged.doomed.id] }), { code: 'storage-unavailable' })
      await assertCalm(null)
    }
    storm.script = () => null
    await repository.close()
  })

  /** A repository of the aged store, opened in calm; time passes for it as fast as it waits. */
  async function stormy(script: (call: Call) => Fault | null) {
    aged.putBack()
    const counts = { calls: 0, faults: 0 }
    const storm = { script: (_: Call): Fault | null => null }
    const faulty = withFaults(aged.memory, (call) => {
      counts.calls++
      const fault = storm.script(call)
      if (fault) counts.faults++
      return fault
    })
    const storage: Storage = withRetries(faulty, { randomBytes, log: () => undefined }, quickWaiting())
    const ambient = clockOff(24 * 365)
    const repository = await openTestRepository(storage, aged.key, { ambient, workers: 1 })
    storm.script = script
    return { repository, counts, storm }
  }

  /** What was told as done is there; all that was kept is whole, the store sound, and the next backup and prune work. */
  async function assertCalm(id: string | null): Promise<void> {
    const ids = await assertAllHold(calm, aged)
    if (id !== null) assert.ok(ids.has(id), `${id} was told as done and is gone, seed ${seed}`)
    await prune(calm, { expire: [aged.doomed.id] })
    await assertHolds(calm, await addPoint(calm, aged.next), aged.next)
    await assertAllHold(calm, aged)
    await assertSound(calm)
  }

  async function unlessAway<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof RegainError && error.code === 'storage-unavailable') return null
      throw error
    }
  }
})

function refused(): Fault {
  const error = markNotApplied(new RegainError('storage-unavailable', 'The store answered 503 (SlowDown).'))
  return { kind: 'reject-before', error }
}

function quickWaiting(): Waiting {
  let nowMs = 0
  return {
    nowMs: () => nowMs,
    async sleep(delayMs) {
      nowMs += delayMs
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
}
