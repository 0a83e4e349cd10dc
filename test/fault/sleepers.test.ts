import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { Repository } from '../../src/repository/api.ts'
import type { Call } from '../../src/storage/fault.ts'
import {
  type AgedRepository,
  addPoint,
  another,
  assertAllHold,
  assertHolds,
  atCall,
  type Contents,
  callsOf,
  makeAgedRepository,
  prune,
  RUN,
  someOf,
} from '../support/aged-repository.ts'
import { assertSound, chooseSeed, seededNumbers, temporaryFolder } from '../support/repository.ts'

/**
 * One process sleeps at a call of its, others do whole pieces of work meanwhile, then it wakes and goes on. Interleavings in
 * general are in interleavings.test.ts; here each call is tried, with what is known to be worst.
 */
describe('a process that sleeps at any call and wakes', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  /** Others, by how many hours their clocks are off: by two days either way, every session looks absurd to them. */
  const others = new Map<number, Repository>()

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    for (const hours of [-48, 0, 48]) others.set(hours, await another(aged, hours))
  })
  after(async () => {
    for (const other of others.values()) await other.close()
    await aged.close()
    folder.remove()
  })

  const doomed = () => ({ expire: [aged.doomed.id] })
  const MEANWHILE: Record<string, { hoursOff: number; during: (other: Repository) => Promise<unknown> }> = {
    'two prunes by one whose clock is right': { hoursOff: 0, during: twice },
    'two prunes by one whose clock is 48 hours ahead, who takes it for dead': { hoursOff: 48, during: twice },
    'two prunes by one whose clock is 48 hours behind, to whom it is of the future': { hoursOff: -48, during: twice },
    'a backup, a prune, and a backup': {
      hoursOff: 0,
      during: async (other) => {
        await addPoint(other, aged.next, 'between')
        await twice(other)
        await addPoint(other, aged.doomed.contents, 'again')
      },
    },
    'a backup of what is about to go': {
      hoursOff: 0,
      during: (other) => addPoint(other, aged.doomed.contents, 'again'),
    },
  }

  async function twice(other: Repository): Promise<void> {
    await prune(other, doomed())
    await prune(other, doomed())
  }

  for (const [what, { hoursOff, during }] of Object.entries(MEANWHILE)) {
    it(`a backup, through ${what}`, async (t) => {
      const outcome = await sleeping(t, () => addPoint(aged.repository, aged.next), hoursOff, during)
      t.diagnostic(`${outcome.fenced} of ${outcome.tried} were fenced`)
      assert.equal(outcome.fenced > 0, hoursOff !== 0)
    })
    it(`a prune, through ${what}`, async (t) => {
      await sleeping(t, () => prune(aged.late, doomed()), hoursOff, during)
    })
  }

  it('a backup, while the store is set back to last week: it is told, and what is there is whole', async (t) => {
    const other = others.get(0) as Repository
    const afterAWeek = async () => {
      aged.putBack()
      await twice(other)
      return addPoint(other, aged.next, 'between')
    }
    await afterAWeek()
    const start = aged.storage.calls.length
    await addPoint(aged.repository, aged.next)
    const calls = aged.storage.calls.slice(start)
    let told = 0
    for (const k of chooseCalls(calls)) {
      const lost = await afterAWeek()
      atCall(aged, (now) => (now === k ? { kind: 'call', when: 'before', run: aged.setBack } : null))
      try {
        const id = await unlessSetBack(() => addPoint(aged.repository, aged.next))
        if (id === null) told++
        aged.setScript(() => null)
        await assertAllHold(other, aged)
        await acceptLoss(others.get(48) as Repository, id === null ? [lost] : [lost, id])
        await assertGoesOn(others.get(48) as Repository)
      } catch (error) {
        throw new Error(`set back at ${k}: ${calls[k - 1]?.name}, seed ${seed}: ${(error as Error).message}`, {
          cause: error,
        })
      }
    }
    t.diagnostic(`seed ${seed}, ${told} were told`)
    assert.ok(told > 0)
  })

  /** A receipt may be written of a point, also the own one, that is gone by then: the loss is told, by its name. */
  async function acceptLoss(repository: Repository, lost: readonly string[]): Promise<void> {
    try {
      await prune(repository, doomed())
    } catch (error) {
      if (!isRegainError(error, 'repository-damaged') || !lost.some((id) => error.message.includes(id))) throw error
      const expire = lost
        .filter((id) => error.message.includes(id))
        .map((id) => ({ id, reason: 'the store was set back' }))
      await repository.prune(await repository.planPrune({ ...RUN, expire, trimLog: [], weighed: [] }), RUN)
    }
  }

  /** Null: it found its session, or what it relied on, gone. */
  async function unlessSetBack(work: () => Promise<string>): Promise<string | null> {
    try {
      return await work()
    } catch (error) {
      const codes = ['session-fenced', 'storage-not-found', 'repository-damaged'] as const
      if (!codes.some((code) => isRegainError(error, code))) throw error
      return null
    }
  }

  async function sleeping(
    t: { diagnostic(message: string): void },
    work: () => Promise<unknown>,
    hoursOff: number,
    during: (other: Repository) => Promise<unknown>,
  ): Promise<{ tried: number; fenced: number }> {
    const other = others.get(hoursOff) as Repository
    const calls = await callsOf(aged, work)
    const ks = chooseCalls(calls)
    t.diagnostic(`seed ${seed}, asleep at ${ks.length} of ${calls.length} calls`)
    let fenced = 0
    for (const k of ks) {
      const { operation, name } = calls[k - 1] as Call
      aged.putBack()
      atCall(aged, (now) =>
        now === k
          ? {
              kind: 'call',
              when: seededNumbers(`${seed} ${k}`)(2) === 0 ? 'before' : 'after',
              run: async () => void (await during(other)),
            }
          : null,
      )
      try {
        const id = await unlessOvertaken(work)
        if (id === null) fenced++
        aged.setScript(() => null)
        const ids = await assertAllHold(other, aged, contentsOf(await other.points()))
        if (typeof id === 'string') assert.ok(ids.has(id), 'it was told as done and is gone')
        await assertGoesOn(others.get(48) as Repository)
      } catch (error) {
        throw new Error(`asleep at ${k}: ${operation} ${name}, seed ${seed}: ${(error as Error).message}`, {
          cause: error,
        })
      }
    }
    return { tried: ks.length, fenced }
  }

  /** Of the points made meanwhile. */
  function contentsOf(points: Awaited<ReturnType<Repository['points']>>): Map<string, Contents> {
    const bySource: Record<string, Contents> = { between: aged.next, again: aged.doomed.contents }
    return new Map(points.flatMap(({ id, source }) => (bySource[source] ? [[id, bySource[source]] as const] : [])))
  }

  /** Writes above all: between two of them is where something can be half done. */
  function chooseCalls(calls: readonly Call[]): number[] {
    const writes = calls.flatMap(({ operation }, i) => (['put', 'create', 'delete'].includes(operation) ? [i + 1] : []))
    const chosen = someOf(writes.length, 12, `${seed} writes`).map((nth) => writes[nth - 1] as number)
    return [...new Set([...chosen, ...someOf(calls.length, 6, seed)])].sort((a, b) => a - b)
  }

  /** Null: a collector took it for dead, and it was told so; or another prune did what this one was asked for. */
  async function unlessOvertaken(work: () => Promise<unknown>): Promise<unknown> {
    try {
      return await work()
    } catch (error) {
      if (isRegainError(error, 'session-fenced') || isRegainError(error, 'point-not-found')) return null
      throw error
    }
  }

  async function assertGoesOn(later: Repository): Promise<void> {
    await twice(later)
    await assertAllHold(later, aged, contentsOf(await later.points()))
    await assertSound(later)
    await assertHolds(later, await addPoint(later, aged.next), aged.next)
  }
})
