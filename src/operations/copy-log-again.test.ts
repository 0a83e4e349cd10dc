import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  createTestRepository,
  hand,
  startRequest,
  type TestRepository,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  writeTree,
} from '../../test/support/repository.ts'
import { isRegainError } from '../errors.ts'
import { drivers } from '../main.ts'
import type { PrunePlan } from '../repository/api.ts'
import { type FaultScript, withFaults } from '../storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../storage/memory.ts'
import type { Application } from './context.ts'
import { copyLog, copyLogAgain } from './copy-log.ts'
import { copyPoint } from './copy-point.ts'

const TIMELINE = '00000001'
const SEGMENT = '000000010000000000000001'
const run = { signal: uninterrupted(), progress: () => undefined }
const reporting = { ...run, warn: () => undefined }

/** An old point is copied to where a prune just removes the log that it needs, each at every step of the other. */
describe('a copy of a point, and a prune that removes its log at the other place', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let memory: MemoryStorage
  let script: FaultScript = () => null
  let from: TestRepository
  let to: TestRepository
  let old: string
  let plan: PrunePlan
  let start: Map<string, Buffer>

  before(async () => {
    folder = temporaryFolder()
    memory = openMemoryStorage()
    from = await createTestRepository(openMemoryStorage(), folder.path, 1)
    to = await createTestRepository(
      withFaults(memory, (call) => script(call)),
      folder.path,
      1,
    )
    writeTree(join(folder.path, 'tree'), { a: 'content' })
    old = await addPoint(from, '0/1000028', '0/1000100')
    await from.repository.log('db').putSegment(TIMELINE, SEGMENT, Buffer.from('log'), { until: '' })
    // There it was removed, and with it the log is to go.
    await to.repository.log('db').putSegment(TIMELINE, SEGMENT, Buffer.from('log'), { until: '' })
    const kept = await addPoint(to, '0/5000028', '0/5000100')
    const next = `${SEGMENT.slice(0, -1)}5`
    await to.repository.log('db').putSegment(TIMELINE, next, Buffer.from('more'), { until: '' })
    const trimLog = [{ source: 'db', branch: TIMELINE, from: '0', to: next }]
    plan = await to.repository.planPrune({ expire: [], trimLog, weighed: [kept], ...run })
    start = new Map(memory.objects)
  })
  after(async () => {
    await from.repository.close()
    await to.repository.close()
    folder.remove()
  })

  async function addPoint({ repository }: TestRepository, startLsn: string, stopLsn: string): Promise<string> {
    const session = await repository.startPoint(startRequest({ source: 'db', sourceType: 'postgres' }))
    await hand(session, join(folder.path, 'tree'))
    const where = { timeline: 1, startLsn, stopLsn, walSegmentBytes: 16 * 1024 ** 2, systemId: '7' }
    const times = { startTime: '2026-01-01T00:00:00Z', stopTime: '2026-01-01T00:00:01Z' }
    const positions = { ...where, ...times, version: '17.1', major: 17, tablespaces: [], settings: {} }
    return (await session.commit({ kind: 'full', root: '/', positions, sourceBytes: 0, missed: [] })).id
  }

  /** As `replicate --all` does. False: refused. */
  async function copy(): Promise<boolean> {
    const logs = { from: from.repository.log('db'), to: to.repository.log('db') }
    const application = { drivers } as unknown as Application
    try {
      await copyLog(logs.from, logs.to, true, reporting)
      await copyPoint(testAmbient(), from.repository, to.repository, old, reporting, {
        begun: (point) => copyLogAgain(application, point, logs, true, reporting),
      })
      return true
    } catch (error) {
      if (!isRegainError(error, 'precondition-failed')) throw error
      return false
    }
  }
  const prune = () => to.repository.prune(plan, run)

  /** Runs `inner` before the nth call of `outer`, for every n. */
  async function atEveryCall(outer: () => Promise<unknown>, inner: () => Promise<unknown>): Promise<void> {
    for (let nth = 1, isReached = true; isReached; nth++) {
      memory.objects.clear()
      for (const [name, bytes] of start) memory.objects.set(name, bytes)
      let calls = 0
      isReached = false
      script = () => {
        if (++calls !== nth) return null
        script = () => null
        isReached = true
        return { kind: 'call', when: 'before', run: async () => void (await inner()) }
      }
      await outer()
      script = () => null
      const points = await to.repository.points()
      assert.deepEqual(await drivers.pointGaps('postgres', to.repository.log('db'), points), [], `call ${nth}`)
      const { problems } = await to.repository.verify({ readData: false, ...run })
      assert.deepEqual(problems, [], `call ${nth}`)
      // The next one meets nobody, and brings it.
      if (points.length === 1) assert.ok(await copy(), `after call ${nth}`)
    }
  }

  it('leave no point without its log when the copy comes in the middle of the prune', async () => {
    const copied: boolean[] = []
    await atEveryCall(prune, async () => copied.push(await copy()))
    assert.ok(copied.includes(true) && copied.includes(false))
  })

  it('leave no point without its log when the prune comes in the middle of the copy', async () => {
    let removed = 0
    await atEveryCall(copy, async () => {
      removed += (await prune()).logSegments
    })
    assert.ok(removed > 0)
  })

  it('leave it uncopied while a delete that got no answer may still be carried out', async () => {
    memory.objects.clear()
    for (const [name, bytes] of start) memory.objects.set(name, bytes)
    script = (call) => (call.operation === 'delete' && call.name.includes(SEGMENT) ? { kind: 'reject-before' } : null)
    await assert.rejects(prune())
    script = () => null
    assert.equal(await copy(), false)
    // Nor does the end of another prune say that it is over.
    await prune()
    assert.equal(await copy(), false)
    const { now } = to.ambient
    to.ambient.now = () => now() + 8 * 24 * 3_600_000
    assert.equal(await copy(), true)
    to.ambient.now = now
  })
})
