import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { Repository } from '../../src/repository/api.ts'
import { lastComponent } from '../../src/repository/format/object-names.ts'
import {
  type AgedRepository,
  addPoint,
  another,
  assertHolds,
  makeAgedRepository,
  prune,
  RUN,
  someOf,
} from '../support/aged-repository.ts'
import { chooseSeed, seededNumbers, temporaryFolder, verify } from '../support/repository.ts'

/**
 * A prune that finds an object damaged, or a bad copy of it: it may refuse, or do less, but what it does must be right all the same.
 * So each object is damaged, a prune runs, and the object is mended: then everything must be there that was kept.
 */
const DAMAGES: Record<string, (sound: Buffer, random: (below: number) => number) => Buffer | null> = {
  'is gone': () => null,
  'is empty': () => Buffer.alloc(0),
  'is half': (sound) => sound.subarray(0, sound.length >>> 1),
  'is short of a byte': (sound) => sound.subarray(0, -1),
  'has a byte too many': (sound) => Buffer.concat([sound, Buffer.alloc(1)]),
  'has a wrong bit in its header': (sound, random) => flip(sound, random(96 * 8)),
  'has a wrong bit near its end': (sound, random) => flip(sound, sound.length * 8 - 1 - random(64 * 8)),
  'has a wrong bit somewhere': (sound, random) => flip(sound, random(sound.length * 8)),
}

describe('a prune of a repository in which an object', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  let collector: Repository
  /** Names that a prune keeps when all is well. */
  let staying: Set<string>

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    collector = await another(aged, 24 * 365)
    aged.putBack()
    await prune(collector, { expire: [aged.doomed.id] })
    staying = new Set(aged.memory.objects.keys())
    aged.putBack()
  })
  after(async () => {
    await collector.close()
    await aged.close()
    folder.remove()
  })

  for (const [what, damage] of Object.entries(DAMAGES))
    it(`${what} removes nothing that is needed`, async (t) => {
      const { objects } = aged.memory
      const random = seededNumbers(`${seed} ${what}`)
      const names = [...objects.keys()].filter((name) => name.includes('/') && !name.startsWith('keys/')).sort()
      const chosen = someOf(names.length, 12, `${seed} ${what}`).map((k) => names[k - 1] as string)
      t.diagnostic(`seed ${seed}, ${chosen.length} of ${names.length} objects`)
      const refused = new Set<string>()
      for (const name of chosen) {
        const about = `${name} ${what}, seed ${seed}`
        aged.putBack()
        const sound = objects.get(name) as Buffer
        const damaged = damage(sound, random)
        if (damaged === null) objects.delete(name)
        else objects.set(name, damaged)
        try {
          const refusal = await refusalOf()
          if (refusal !== null) {
            refused.add(name.split('/')[0] as string)
            assert.ok(damaged === null || namesLoss(refusal, name), refusal)
          }
          // What the prune removed by itself stays removed: that is what is looked at.
          const isUntouched =
            refusal !== null && ![...objects.keys()].some((name) => name.startsWith(`expired/${aged.doomed.id}`))
          if (damaged === null ? isUntouched || staying.has(name) : objects.has(name)) objects.set(name, sound)
          for (const [id, contents] of aged.kept) await assertHolds(collector, id, contents)
          await prune(collector, { expire: [aged.doomed.id] })
          await assertHolds(collector, await addPoint(collector, aged.next), aged.next)
          for (const [id, contents] of aged.kept) await assertHolds(collector, id, contents)
        } catch (error) {
          throw new Error(`${about}: ${(error as Error).message}`, { cause: error })
        }
      }
      aged.putBack()
      t.diagnostic(`refused for: ${[...refused].join(', ')}`)
      assert.ok(refused.size > 0, 'nothing was hurt by it')
    })

  it('is named by verification, if it is a record of removal and damaged, and no point is taken for hurt by it', async () => {
    const { objects } = aged.memory
    aged.putBack()
    await prune(collector, { expire: [aged.doomed.id] })
    const [held] = [...aged.kept.keys()] as [string]
    await collector.hold(held, 'a test')
    const pinned = await collector.openPoint(held, RUN)
    const names = [...objects.keys()].filter((name) =>
      /^(expired|holds|pins|generations|log\/[^/]+\/trims)\//.test(name),
    )
    for (const kind of ['expired/', 'holds/', 'pins/', 'generations/', 'log/'])
      assert.ok(
        names.some((name) => name.startsWith(kind)),
        kind,
      )
    const random = seededNumbers(`${seed} records`)
    for (const name of names)
      for (const [what, damage] of Object.entries(DAMAGES)) {
        const sound = objects.get(name) as Buffer
        const damaged = damage(sound, random)
        if (damaged === null) continue
        objects.set(name, damaged)
        const { problems } = await verify(collector)
        objects.set(name, sound)
        const about = `${name} ${what}, seed ${seed}: ${JSON.stringify(problems)}`
        assert.ok(
          problems.some(({ object, detail }) => object === name || detail.includes(name)),
          about,
        )
        for (const { hurts } of problems) assert.deepEqual(hurts, [], about)
      }
    await pinned.close()
  })

  /** The object, or, of a pack that is not what the index says, a point that needs it. */
  function namesLoss(refusal: string, name: string): boolean {
    return refusal.includes(lastComponent(name)) || [...aged.kept.keys()].some((id) => refusal.includes(id))
  }

  /** What it says, if it refuses. */
  async function refusalOf(): Promise<string | null> {
    try {
      await prune(collector, { expire: [aged.doomed.id] })
      return null
    } catch (error) {
      if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'repository-version')) throw error
      return error.message
    }
  }
})

function flip(sound: Buffer, bit: number): Buffer {
  const damaged = Buffer.from(sound)
  const at = (bit >>> 3) % damaged.length
  damaged[at] = (damaged[at] as number) ^ (1 << (bit & 7))
  return damaged
}
