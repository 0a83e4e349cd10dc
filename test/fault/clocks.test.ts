import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Ambient } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import {
  type AgedRepository,
  addPoint,
  assertAllHold,
  HOUR_MS,
  makeAgedRepository,
  prune,
} from '../support/aged-repository.ts'
import { assertSound, chooseSeed, openTestRepository, seededNumbers, temporaryFolder } from '../support/repository.ts'

const ROUNDS = Number(process.env.REGAIN_SOAK_ROUNDS ?? 12)

/** What is decided by a clock may be too early or too late; what is there must not depend on it. */
describe('clocks that are wrong', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
  })
  after(async () => {
    await aged.close()
    folder.remove()
  })

  /** Hosts by their clocks. Nobody's process is known to any other. */
  const HOSTS: Record<string, (random: (below: number) => number) => () => number> = {
    '48 hours ahead': () => ticking(48),
    '48 hours behind': () => ticking(-48),
    'jumping by up to two days at every look': (random) => {
      const clock = ticking(0)
      return () => clock() + (random(97) - 48) * HOUR_MS
    },
    'standing still': () => () => Date.UTC(2026, 0, 1),
    'of 1970': () => () => 0,
    'of the year 9999': () => () => Date.UTC(9999, 0, 1),
  }

  it('lose nothing, whichever of them backs up and whichever prunes', async (t) => {
    t.diagnostic(`seed ${seed}`)
    aged.putBack()
    const random = seededNumbers(seed)
    const hosts = new Map<string, Repository>()
    for (const [name, clock] of Object.entries(HOSTS)) hosts.set(name, await open(clock(random)))
    const names = [...hosts.keys()]
    const made = new Set<string>()
    for (let round = 0; round < ROUNDS; round++) {
      const writer = names[random(names.length)] as string
      const collector = names[random(names.length)] as string
      const about = `seed ${seed}, round ${round}: backup by the clock ${writer}, prune by that ${collector}`
      try {
        made.add(await addPoint(hosts.get(writer) as Repository, aged.next))
        const expire = [...made].filter(() => random(3) === 0)
        for (const id of expire) made.delete(id)
        await prune(hosts.get(collector) as Repository, { expire: [...expire, aged.doomed.id] })
        const ids = await assertAllHold(hosts.get(writer) as Repository, aged)
        for (const id of made) assert.ok(ids.has(id), `${id} is gone`)
        await assertSound(hosts.get(collector) as Repository)
      } catch (error) {
        throw new Error(`${about}: ${(error as Error).message}`, { cause: error })
      }
    }
    for (const host of hosts.values()) await host.close()
  })

  function ticking(hoursOff: number): () => number {
    let nowMs = Date.UTC(2026, 0, 1) + hoursOff * HOUR_MS
    return () => (nowMs += 1000)
  }

  function open(now: () => number): Promise<Repository> {
    const ambient: Ambient = { now, randomBytes, log: () => undefined }
    return openTestRepository(aged.memory, aged.key, { ambient, workers: 1 })
  }
})
