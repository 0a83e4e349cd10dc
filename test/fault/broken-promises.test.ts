import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { Repository } from '../../src/repository/api.ts'
import type { Storage, StoredObject } from '../../src/storage/contract.ts'
import type { Call } from '../../src/storage/fault.ts'
import {
  type AgedRepository,
  addPoint,
  another,
  assertHolds,
  atCall,
  callsOf,
  clockOff,
  makeAgedRepository,
  prune,
  someOf,
} from '../support/aged-repository.ts'
import { chooseSeed, openTestRepository, temporaryFolder, verify } from '../support/repository.ts'

/**
 * Stores that break what src/storage/contract.ts asks of them, which no protocol can make good. What is left to promise: no
 * wrong byte is ever restored, and verification names every point that is hurt.
 */
describe('a store that breaks its promises', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  let later: Repository

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    later = await another(aged, 24 * 365)
  })
  after(async () => {
    await later.close()
    await aged.close()
    folder.remove()
  })

  const isWrite = ({ operation }: Call) => operation === 'put' || operation === 'create'
  const WORK: Record<string, () => Promise<unknown>> = {
    'a backup': () => addPoint(aged.repository, aged.next),
    'a prune': () => prune(aged.late, { expire: [aged.doomed.id] }),
  }

  for (const [what, work] of Object.entries(WORK))
    for (const kept of ['nothing', 'half', 'all but a byte'])
      it(`by keeping ${kept} of what ${what} writes: earlier points are whole, and the hurt are named`, async (t) => {
        const writes = (await callsOf(aged, work)).filter(isWrite)
        const ks = someOf(writes.length, 10, `${seed} ${kept}`)
        t.diagnostic(`seed ${seed}, ${ks.length} of ${writes.length} writes`)
        for (const k of ks) {
          const about = `write ${k}, ${writes[k - 1]?.name}, seed ${seed}`
          aged.putBack()
          let torn = ''
          let now = 0
          aged.setScript((call) => {
            if (!isWrite(call) || ++now !== k) return null
            torn = call.name
            return { kind: 'call', when: 'after', run: () => tear(torn, kept) }
          })
          const id = await outcomeOf(work)
          aged.setScript(() => null)
          await assertToldOrWhole(id, about, torn)
        }
      })

  const STALE: Record<string, { before(): Promise<unknown>; work(repository: Repository): Promise<unknown> }> = {
    'a backup, from before a prune': { before: () => prune(later, { expire: [aged.doomed.id] }), work: backUpNext },
    'a backup, from before another': { before: () => backUpNext(later), work: backUpNext },
    'a prune, from before a backup': { before: () => backUpNext(later), work: expireDoomed },
    'a prune, from before another': { before: () => expireDoomed(later), work: expireDoomed },
  }
  for (const [what, { before, work }] of Object.entries(STALE))
    for (const prefix of ['', 'packs/', 'index/', 'sessions/', 'ends/', 'generations/'])
      it(`by showing ${what}, an old listing of ${prefix || 'everything'}: the hurt are named`, async () => {
        aged.putBack()
        const old = new Map(aged.memory.objects)
        await before()
        const between = (await later.points()).map(({ id }) => id).filter((id) => !isOld(id))
        const repository = await openTestRepository(listingOf(aged.memory, old, prefix), aged.key, {
          ambient: clockOff(24 * 365),
          workers: 1,
        })
        const id = await outcomeOf(() => work(repository))
        await repository.close()
        for (const one of typeof id === 'string' ? [...between, id] : between) await assertToldOrWhole(one, what, '')
        await assertToldOrWhole(null, what, '')
      })

  function isOld(id: string): boolean {
    return aged.kept.has(id) || id === aged.doomed.id
  }

  it('by letting a name be created twice: one who commits after it was fenced is told, or its point is named', async () => {
    const lying: Storage = {
      ...storageOf(aged.storage),
      create: (...args) => aged.storage.put(...args).then(() => true),
    }
    const writer = await openTestRepository(lying, aged.key, { ambient: clockOff(0), workers: 1 })
    const fencing = await another(aged, 48)
    const calls = await callsOf(aged, () => addPoint(writer, aged.next))
    for (const k of someOf(calls.length, 12, seed)) {
      aged.putBack()
      const run = async () => {
        await prune(fencing, { expire: [aged.doomed.id] })
        await prune(fencing, { expire: [] })
      }
      atCall(aged, (now) => (now === k ? { kind: 'call', when: 'before', run } : null))
      const id = await outcomeOf(() => addPoint(writer, aged.next))
      aged.setScript(() => null)
      await assertToldOrWhole(id, `fenced at ${k}, seed ${seed}`, '')
    }
    await fencing.close()
    await writer.close()
  })

  function backUpNext(repository: Repository): Promise<unknown> {
    return addPoint(repository, aged.next)
  }

  function expireDoomed(repository: Repository): Promise<unknown> {
    return prune(repository, { expire: [aged.doomed.id] })
  }

  function tear(name: string, kept: string): void {
    const whole = aged.memory.objects.get(name)
    if (whole === undefined) return
    const length = kept === 'nothing' ? 0 : kept === 'half' ? whole.length >>> 1 : whole.length - 1
    aged.memory.objects.set(name, whole.subarray(0, length))
  }

  /** Earlier points are whole, whatever was torn; the new one is, or verification names it or the torn object. */
  async function assertToldOrWhole(id: unknown, about: string, torn: string): Promise<void> {
    try {
      for (const [kept, contents] of aged.kept) {
        // A point that does not count is not found.
        await later.findPoint(kept)
        await assertHolds(later, kept, contents)
      }
      const { problems } = await verify(later)
      const hurt = new Set(problems.flatMap(({ hurts }) => hurts.map(({ point }) => point)))
      for (const kept of aged.kept.keys()) assert.ok(!hurt.has(kept), 'an earlier point is hurt')
      const isThere =
        aged.memory.objects.has(torn) && /^(packs|index|ends|sessions|receipts|generations|expired)\//.test(torn)
      if (isThere) assert.ok(problems.length > 0, 'nothing is told')
      if (typeof id !== 'string') return
      const named = hurt.has(id) || problems.some(({ object }) => object.includes(id))
      if (!named) await assertHolds(later, id, aged.next)
    } catch (error) {
      throw new Error(`${about}: ${(error as Error).message}`, { cause: error })
    }
  }

  async function outcomeOf(work: () => Promise<unknown>): Promise<unknown> {
    try {
      return await work()
    } catch (error) {
      assert.ok(isRegainError(error) && error.code !== 'internal', String(error))
      return null
    }
  }
})

function storageOf(storage: Storage): Storage {
  return {
    description: storage.description,
    put: (...args) => storage.put(...args),
    create: (...args) => storage.create(...args),
    get: (...args) => storage.get(...args),
    size: (...args) => storage.size(...args),
    list: (...args) => storage.list(...args),
    delete: (...args) => storage.delete(...args),
    close: () => Promise.resolve(),
  }
}

/** The store, but for listings below the prefix, which are of an earlier state. */
function listingOf(storage: Storage, old: ReadonlyMap<string, Buffer>, prefix: string): Storage {
  async function* list(asked: string): AsyncGenerator<StoredObject> {
    if (!asked.startsWith(prefix)) return yield* storage.list(asked)
    for (const [name, { length }] of old) if (name.startsWith(asked)) yield { name, size: length }
  }
  return { ...storageOf(storage), list }
}
