import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  hand,
  readTree,
  restore,
  SOURCE,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  verify,
  writeTree,
} from '../../../test/support/repository.ts'
import { isRegainError } from '../../errors.ts'
import { type FaultScript, withFaults } from '../../storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../../storage/memory.ts'
import type { PrunePlan, PruneReport, PruneRequest } from '../api.ts'
import { endName, expiredName, PREFIX, receiptName, sessionName, trimPrefix } from '../format/object-names.ts'
import { sealRecord } from '../format/records.ts'
import { readExpired } from '../points/expired.ts'
import type { RepositoryState } from '../repository-state.ts'
import { expirePoint } from './expire.ts'

const HOUR_MS = 3_600_000
const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0 } as const

describe('a prune', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let memory: MemoryStorage
  let script: FaultScript
  let made: TestRepository
  let state: RepositoryState

  beforeEach(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    memory = openMemoryStorage()
    script = () => null
    made = await createTestRepository(
      withFaults(memory, (call) => script(call)),
      folder.path,
      1,
    )
    state = (made.repository as unknown as { state: RepositoryState }).state
  })
  afterEach(async () => {
    await made.repository.close()
    folder.remove()
  })

  const expired = () => names(PREFIX.expired).map((name) => name.slice(PREFIX.expired.length, -33))
  const names = (prefix: string) => [...memory.objects.keys()].filter((name) => name.startsWith(prefix)).sort()

  async function request(expire: string[], more: Partial<PruneRequest> = {}): Promise<PruneRequest> {
    return {
      expire: expire.map((id) => ({ id, reason: 'a test' })),
      trimLog: [],
      weighed: (await made.repository.points()).map(({ id }) => id),
      signal: uninterrupted(),
      progress: () => undefined,
      ...more,
    }
  }

  async function plan(expire: string[] = [], more: Partial<PruneRequest> = {}): Promise<PrunePlan> {
    return made.repository.planPrune(await request(expire, more))
  }

  function carryOut(planned: PrunePlan): Promise<PruneReport> {
    return made.repository.prune(planned, { signal: uninterrupted(), progress: () => undefined })
  }

  async function prune(expire: string[] = [], more: Partial<PruneRequest> = {}): Promise<PruneReport> {
    return carryOut(await plan(expire, more))
  }

  async function addPoint(name: string, bytes = 300_000, source = SOURCE) {
    writeTree(tree, { shared: someBytes('shared', 150_000), [name]: someBytes(name, bytes) })
    const { point } = await backUp(made.repository, tree, { source })
    const expected = readTree(tree)
    rmSync(join(tree, name))
    return { id: point.id, expected }
  }

  /** The clock that sessions, pins and records are dated by, so many hours later. */
  function laterBy(hours: number): void {
    const { now } = made.ambient
    made.ambient.now = () => now() + hours * HOUR_MS
  }

  it('removes a point and what only that needs, and leaves the others whole', async () => {
    const one = await addPoint('one')
    const two = await addPoint('two')
    const before = names(PREFIX.packs).length
    const planned = await plan([one.id])
    assert.deepEqual(
      planned.expire.map(({ id, source, reason }) => ({ id, source, reason })),
      [{ id: one.id, source: SOURCE, reason: 'a test' }],
    )
    assert.equal(planned.packs.total, before)
    assert.deepEqual([...new Set(planned.packs.remove.map(({ why }) => why))], ['dead'])
    assert.equal(names(PREFIX.packs).length, before, 'a plan changes nothing')
    const report = await carryOut(planned)
    assert.deepEqual(report.expired, [one.id])
    assert.equal(report.packs.removed, planned.packs.remove.length + planned.packs.repack.length)
    assert.deepEqual(report.waits, [])
    assert.equal(report.bytesLater, 0)
    assert.deepEqual(
      (await made.repository.points()).map(({ id }) => id),
      [two.id],
    )
    await assertRestores(made.repository, two.id, two.expected)
    await assertSound(made.repository)
    assert.deepEqual(names(PREFIX.sessions), [sessionName(two.id)])
    assert.deepEqual(names(PREFIX.ends), [endName(two.id)])
    assert.deepEqual(names(PREFIX.receipts), [receiptName(two.id)])
    assert.equal(made.ambient.lines.filter(({ level }) => level !== 'debug').length, 0)
  })

  it('changes nothing when there is nothing to do', async () => {
    const one = await addPoint('one')
    const before = new Map(memory.objects)
    const report = await prune()
    assert.deepEqual([...memory.objects.keys()].sort(), [...before.keys()].sort())
    assert.equal(report.bytesFreed, 0)
    await assertRestores(made.repository, one.id, one.expected)
  })

  it('frees what it said', async () => {
    const one = await addPoint('one')
    await addPoint('two')
    const size = () =>
      [...names(PREFIX.packs), ...names(PREFIX.index)].reduce(
        (sum, name) => sum + (memory.objects.get(name)?.length ?? 0),
        0,
      )
    const before = size()
    const planned = await plan([one.id])
    const report = await carryOut(planned)
    assert.equal(before - size(), report.bytesFreed)
    assert.ok(report.bytesFreed > 0)
  })

  it('is completed by the next one, wherever an expiry was cut short', async () => {
    const victim = await addPoint('one')
    const kept = await addPoint('two')
    const state0 = new Map(memory.objects)
    for (let calls = 1; ; calls++) {
      memory.objects.clear()
      for (const [name, bytes] of state0) memory.objects.set(name, bytes)
      const planned = await plan([victim.id])
      let call = 0
      script = () => (++call >= calls ? { kind: 'reject-before' } : null)
      const failed = await carryOut(planned).then(
        () => false,
        (error: unknown) => {
          assert.ok(isRegainError(error, 'storage-unavailable'), String(error))
          return true
        },
      )
      script = () => null
      if (!failed) break
      const points = (await made.repository.points()).map(({ id }) => id)
      for (const id of points)
        await assertRestores(made.repository, id, id === kept.id ? kept.expected : victim.expected)
      await assertSound(made.repository)
      // Without being asked again, if the point does not count any more.
      await prune(points.includes(victim.id) ? [victim.id] : [])
      assert.deepEqual(names(PREFIX.sessions), [sessionName(kept.id)])
      assert.deepEqual(names(PREFIX.ends), [endName(kept.id)])
      assert.deepEqual(names(PREFIX.receipts), [receiptName(kept.id)])
      await assertRestores(made.repository, kept.id, kept.expected)
      await assertSound(made.repository)
      const planned2 = await plan()
      assert.deepEqual(planned2.packs.remove, [], `call ${calls}`)
      assert.deepEqual(planned2.expire, [])
    }
  })

  it('does not complete the removal of a point that counts still and that the rules now keep', async () => {
    const victim = await addPoint('one')
    await addPoint('two')
    const planned = await plan([victim.id])
    script = ({ operation }) => (operation === 'delete' ? { kind: 'reject-before' } : null)
    await assert.rejects(carryOut(planned), { code: 'storage-unavailable' })
    script = () => null
    assert.deepEqual(expired(), [victim.id])
    assert.deepEqual((await plan()).expire, [])
    assert.deepEqual((await prune()).expired, [])
    await assertRestores(made.repository, victim.id, victim.expected)
    await assertSound(made.repository)
    assert.deepEqual((await prune([victim.id])).expired, [victim.id])
    await assertSound(made.repository)
  })

  it('waits for a backup of unknown fate, marks, and leaves removal to the next', async () => {
    const one = await addPoint('one')
    const two = await addPoint('two')
    const session = await made.repository.startPoint(startRequest({ source: 'other' }))
    const report = await prune([one.id])
    assert.equal(report.packs.removed, 0)
    assert.ok(report.bytesLater > 0)
    assert.match(report.waits.join(), /A backup of other is running/)
    assert.equal(names(PREFIX.generations).length, 2, 'marked, nothing retired')
    writeTree(tree, { one: someBytes('one', 300_000) })
    await hand(session, tree)
    const point = await session.commit({ ...SUMMARY, missed: [] })
    const expected = readTree(tree)
    const next = await prune()
    // What the session used again, marked as it is, stays until it is written anew.
    await assertRestores(made.repository, point.id, expected)
    await assertRestores(made.repository, two.id, two.expected)
    await assertSound(made.repository)
    assert.deepEqual(next.waits, [])
  })

  it('removes what was marked before a running backup began', async () => {
    const one = await addPoint('one')
    await addPoint('two')
    const first = await made.repository.startPoint(startRequest({ source: 'other' }))
    assert.equal((await prune([one.id])).packs.removed, 0)
    const second = await made.repository.startPoint(startRequest({ source: 'another' }))
    await first.discard()
    const report = await prune()
    assert.ok(report.packs.removed > 0)
    await second.discard()
    await assertSound(made.repository)
  })

  it('fences a backup that was silent for a day, and never a young one', async () => {
    const one = await addPoint('one')
    const session = await made.repository.startPoint(startRequest({ source: 'other' }))
    laterBy(20)
    assert.equal((await prune([one.id])).sessions, 0)
    laterBy(5)
    const planned = await plan()
    assert.deepEqual(
      planned.sessions.map(({ session: id, why }) => ({ id, why })),
      [{ id: session.id, why: 'silent' }],
    )
    const report = await carryOut(planned)
    assert.equal(report.sessions, 1)
    assert.ok(report.packs.removed > 0)
    await hand(session, tree)
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), { code: 'session-fenced' })
    await session.discard()
    assert.deepEqual([...names(PREFIX.sessions), ...names(PREFIX.ends)], [])
    await assertSound(made.repository)
  })

  it('fences at once a backup whose process is dead, and waits for days for one that lives', async () => {
    const one = await addPoint('one')
    let isAlive: boolean | null = true
    made.ambient.process = { identity: 'me', isAlive: () => isAlive }
    await made.repository.startPoint(startRequest())
    laterBy(100)
    assert.equal((await prune([one.id])).sessions, 0)
    isAlive = false
    const report = await prune()
    assert.equal(report.sessions, 1)
    assert.ok(report.packs.removed > 0)
  })

  it('keeps the data of an expired point while somebody reads it', async () => {
    const one = await addPoint('one')
    const reader = await made.repository.openPoint(one.id, { signal: uninterrupted() })
    const report = await prune([one.id])
    assert.equal(report.packs.removed, 0)
    assert.match(report.waits.join(), /is being read/)
    assert.deepEqual(await made.repository.points(), [])
    for await (const entry of reader.entries()) if (entry.type === 'file') for await (const _ of reader.stream(entry));
    await reader.close()
    assert.ok((await prune()).packs.removed > 0)
    assert.deepEqual(names(PREFIX.packs), [])
    await assertSound(made.repository)
  })

  it('clears the pin of a reader that died, and then removes what it held', async () => {
    const one = await addPoint('one')
    const reader = await made.repository.openPoint(one.id, { signal: uninterrupted() })
    await prune([one.id])
    laterBy(24 * 7 + 1)
    const report = await prune()
    assert.equal(report.pins, 1)
    assert.ok(report.packs.removed > 0)
    assert.deepEqual(names(PREFIX.pins), [])
    await reader.close()
  })

  it('removes nothing when a point can not be read whole, or is gone without having been removed', async () => {
    const one = await addPoint('one')
    const two = await addPoint('two')
    const whole = new Map(memory.objects)
    const damages: (() => void)[] = [
      () => memory.objects.delete(names(PREFIX.packs)[0]!),
      () => memory.objects.delete(names(PREFIX.index)[0]!),
      () => memory.objects.set(endName(two.id), Buffer.from('not it')),
      () => memory.objects.delete(endName(two.id)),
      () => memory.objects.delete(sessionName(two.id)),
      () => memory.objects.set(names(PREFIX.index)[0]!, Buffer.from('not it')),
    ]
    for (const damage of damages) {
      memory.objects.clear()
      for (const [name, bytes] of whole) memory.objects.set(name, bytes)
      const planned = await plan()
      damage()
      const packs = names(PREFIX.packs)
      await assert.rejects(plan(), { code: 'repository-damaged' })
      // A plan made before, that wants all.
      planned.packs.remove = packs.map((name) => ({ name: name.slice(-64), bytes: 1, needed: 0, why: 'dead' }))
      await assert.rejects(carryOut(planned), { code: 'repository-damaged' })
      assert.deepEqual(names(PREFIX.packs), packs)
    }
    memory.objects.clear()
    for (const [name, bytes] of whole) memory.objects.set(name, bytes)
    memory.objects.delete(endName(two.id))
    // The loss accepted by name, the rest goes on.
    await prune([two.id])
    await assertRestores(made.repository, one.id, one.expected)
    await assertSound(made.repository)
  })

  it('removes no data where there is no point and no word of one', async () => {
    const one = await addPoint('one')
    const lost = new Map([...memory.objects].filter(([name]) => /^(?:sessions|ends|receipts)\//.test(name)))
    for (const name of lost.keys()) memory.objects.delete(name)
    const packs = names(PREFIX.packs)
    const planned = await plan()
    assert.deepEqual(planned.packs.remove, [])
    assert.match(planned.waits.join(), /no recovery point/)
    await carryOut(planned)
    assert.deepEqual(names(PREFIX.packs), packs)
    for (const [name, bytes] of lost) memory.objects.set(name, bytes)
    await assertRestores(made.repository, one.id, one.expected)
  })

  it('does less than a plan that the repository has outgrown, never more', async () => {
    const one = await addPoint('one')
    const planned = await plan([one.id])
    const two = await addPoint('one', 300_000, 'other')
    const three = await addPoint('three', 300_000, 'other')
    await prune([three.id])
    const stray = names(PREFIX.packs)
    await carryOut(planned)
    await assertRestores(made.repository, two.id, two.expected)
    await assertSound(made.repository)
    for (const name of stray)
      assert.ok(memory.objects.has(name) || planned.packs.remove.some((pack) => name.endsWith(pack.name)))
  })

  it('writes anew what is needed of packs that are mostly dead, and frees the rest', async () => {
    writeTree(tree, Object.fromEntries([1, 2, 3, 4, 5].map((i) => [`f${i}`, someBytes(`f${i}`, 200_000)])))
    const { point: one } = await backUp(made.repository, tree)
    for (let i = 2; i <= 5; i++) rmSync(join(tree, `f${i}`))
    const { point: two } = await backUp(made.repository, tree)
    const expected = readTree(tree)
    const size = () => names(PREFIX.packs).reduce((sum, name) => sum + (memory.objects.get(name)?.length ?? 0), 0)
    const before = size()
    const planned = await plan([one.id])
    const sparse = planned.packs.repack.filter(({ why }) => why === 'sparse')
    assert.equal(sparse.length, 1)
    assert.ok(sparse[0]!.needed > 0.19 && sparse[0]!.needed < 0.21)
    const report = await carryOut(planned)
    assert.equal(report.packs.repacked, planned.packs.repack.length)
    assert.ok(before - size() > 780_000)
    await assertRestores(made.repository, two.id, expected)
    await assertSound(made.repository)
    const next = await plan()
    assert.deepEqual([next.packs.remove, next.packs.repack], [[], []])
    // Pages and content stay in packs of their own.
    const reopened = await backUp(made.repository, tree)
    assert.equal(reopened.point.bytes.new, 0)
  })

  it('leaves a sparse pack that can not be read, and everything in it', async () => {
    writeTree(tree, Object.fromEntries([1, 2, 3, 4, 5].map((i) => [`f${i}`, someBytes(`f${i}`, 200_000)])))
    const { point: one } = await backUp(made.repository, tree)
    for (let i = 2; i <= 5; i++) rmSync(join(tree, `f${i}`))
    await backUp(made.repository, tree)
    const planned = await plan([one.id])
    const largest = names(PREFIX.packs).sort(
      (a, b) => memory.objects.get(b)!.length - memory.objects.get(a)!.length,
    )[0]!
    const bytes = memory.objects.get(largest)!
    for (let at = 200; at < bytes.length - 5000; at += 1000) bytes[at]! ^= 1
    const report = await carryOut(planned)
    assert.ok(memory.objects.has(largest))
    assert.ok(report.packs.repacked < planned.packs.repack.length)
    assert.match(made.ambient.lines.map(({ message }) => message).join(), /is not written anew/)
  })

  it('writes anew what was marked and is needed after all', async () => {
    const one = await addPoint('one')
    const session = await made.repository.startPoint(startRequest({ source: 'other' }))
    await prune([one.id])
    writeTree(tree, { one: someBytes('one', 300_000) })
    await hand(session, tree)
    const { id } = await session.commit({ ...SUMMARY, missed: [] })
    const expected = readTree(tree)
    const planned = await plan()
    assert.ok(planned.packs.repack.some(({ why }) => why === 'marked'))
    await carryOut(planned)
    await assertRestores(made.repository, id, expected)
    await assertSound(made.repository)
    const next = await plan()
    assert.deepEqual([next.packs.remove, next.packs.repack], [[], []])
    assert.equal(
      (await backUp(made.repository, tree, { source: 'other' })).point.bytes.new,
      0,
      'none is marked any more',
    )
  })

  it('removes packs that no index names, once no backup runs', async () => {
    const one = await addPoint('one')
    const indexed = names(PREFIX.index)
    const session = await made.repository.startPoint(startRequest())
    writeTree(tree, { new: someBytes('new', 400_000) })
    await hand(session, tree)
    await session.allRead()
    await state.pool.flush({ type: 'flush', session: (session as unknown as { number: number }).number })
    await session.discard()
    for (const name of names(PREFIX.index)) if (!indexed.includes(name)) memory.objects.delete(name)
    const planned = await plan()
    assert.ok(planned.packs.remove.some(({ why }) => why === 'unindexed'))
    await carryOut(planned)
    await assertRestores(made.repository, one.id, one.expected)
    assert.deepEqual((await plan()).packs.remove, [])
  })

  it('clears a commit that came after its session was fenced and cleared away', async () => {
    const one = await addPoint('one')
    const end = memory.objects.get(endName(one.id))!
    memory.objects.delete(sessionName(one.id))
    memory.objects.delete(receiptName(one.id))
    memory.objects.set(endName(one.id), end)
    await prune()
    assert.deepEqual(names(PREFIX.ends), [])
  })

  it('forgets an expired point when nothing can ask about it any more', async () => {
    const one = await addPoint('one')
    const two = await addPoint('two')
    await prune([one.id])
    laterBy(24 * 31)
    await prune()
    assert.deepEqual(expired(), [one.id], 'the next point names it')
    const three = await addPoint('three')
    const four = await addPoint('four')
    await prune([two.id, three.id])
    await prune()
    assert.deepEqual(expired(), [three.id, two.id].sort())
    laterBy(24 * 31)
    await prune()
    assert.deepEqual(expired(), [three.id])
    await assertSound(made.repository)
    await assertRestores(made.repository, four.id, four.expected)
  })

  it('explains a point that two removed at once, in any order of their steps and whichever record is the last', async () => {
    const { signal } = new AbortController()
    const { randomBytes } = made.ambient
    let blank = 0
    for (let nth = 1, isBetween = true; isBetween; nth++) {
      const { id } = await addPoint(`one ${nth}`, 1000)
      const next = await addPoint(`two ${nth}`, 1000)
      const expire = async (random: string) => {
        // Which the record's name ends with.
        made.ambient.randomBytes = (bytes) => (bytes === 16 ? Buffer.alloc(16, random) : randomBytes(bytes))
        await expirePoint(state, { id, reason: 'a test' }, signal)
      }
      let calls = 0
      isBetween = false
      script = () => {
        if (++calls !== nth) return null
        script = () => null
        isBetween = true
        const drawn = made.ambient.randomBytes
        const whole = () => expire('a').finally(() => Object.assign(made.ambient, { randomBytes: drawn }))
        return { kind: 'call', when: 'before', run: whole }
      }
      await expire('z')
      script = () => null
      made.ambient.randomBytes = randomBytes
      for (const record of (await readExpired(state, id)).values()) if (record.commit === '') blank++
      await assertSound(made.repository)
      await prune()
      assert.deepEqual(
        [...names(PREFIX.sessions), ...names(PREFIX.ends)].filter((name) => name.includes(id)),
        [],
      )
      await assertRestores(made.repository, next.id, next.expected)
      await prune([next.id])
    }
    assert.ok(blank > 0, 'none came too late to find the commit')
  })

  it('tells a forged expiry from a true one', async () => {
    const one = await addPoint('one')
    await addPoint('two')
    for (const name of [sessionName(one.id), endName(one.id), receiptName(one.id)]) memory.objects.delete(name)
    memory.objects.set(expiredName(one.id, one.id), Buffer.from('it expired, believe me'))
    const { problems } = await verify(made.repository)
    assert.deepEqual(
      problems.map(({ object, kind }) => ({ object, kind })),
      [
        { object: expiredName(one.id, one.id), kind: 'changed' },
        { object: endName(one.id), kind: 'missing' },
      ],
    )
  })

  describe('of log', () => {
    const log = () => made.repository.log('db')
    const meta = { until: '' }
    const range = { source: 'db', branch: '1', from: '0', to: '3' }
    const segments = async () => (await log().list()).segments.map(({ name }) => name)

    beforeEach(async () => {
      for (let i = 0; i < 5; i++)
        await log().putSegment(
          '1',
          String(i),
          Buffer.from(`log ${i}`),
          i === 0 ? meta : { ...meta, follows: String(i - 1) },
        )
      await log().putTail('1', '1', 0, Buffer.from('tail'), meta)
    })

    it('removes the ranges, and leaves word of it', async () => {
      const planned = await plan([], { trimLog: [range] })
      assert.deepEqual(
        planned.trimLog.map((trim) => trim.segments),
        [3],
      )
      const report = await carryOut(planned)
      assert.equal(report.logSegments, 3)
      assert.deepEqual(await segments(), ['3', '4'])
      assert.deepEqual((await log().list()).tails, [])
      await assertSound(made.repository)
      await prune([], { trimLog: [{ ...range, to: '4' }] })
      assert.deepEqual(await segments(), ['4'])
      assert.equal(names(trimPrefix('db')).length, 1)
      await assertSound(made.repository)
      const trims = names(trimPrefix('db'))
      for (const name of trims) memory.objects.set(name, Buffer.from('forged'))
      const { problems } = await verify(made.repository)
      assert.deepEqual(
        problems.map(({ kind }) => kind),
        ['changed', 'missing'],
      )
    })

    it('is told from a loss wherever it is cut short', async () => {
      const planned = await plan([], { trimLog: [range] })
      const kept = new Map(memory.objects)
      for (let calls = 1; ; calls++) {
        memory.objects.clear()
        for (const [name, bytes] of kept) memory.objects.set(name, bytes)
        let call = 0
        script = () => (++call >= calls ? { kind: 'reject-before' } : null)
        const failed = await carryOut(planned).then(
          () => false,
          () => true,
        )
        script = () => null
        await assertSound(made.repository)
        if (!failed) break
      }
    })

    it('is left alone while a backup of the source runs, or when there is a point that was not weighed', async () => {
      const session = await made.repository.startPoint(startRequest({ source: 'db' }))
      const first = await prune([], { trimLog: [range] })
      assert.match(first.waits.join(), /The log of db is left/)
      assert.equal((await segments()).length, 5)
      const planned = await plan([], { trimLog: [range] })
      await session.discard()
      await addPoint('one', 1000, 'db')
      const second = await carryOut(planned)
      assert.match(second.waits.join(), /The log of db is left/)
      assert.equal((await segments()).length, 5)
      await prune([], { trimLog: [range] })
      assert.equal((await segments()).length, 2)
    })

    it('is left alone when a point that was to go is held since: it needs the log of its own backup', async () => {
      const point = await addPoint('one', 1000, 'db')
      await addPoint('two', 1000, 'db')
      const planned = await plan([point.id], { trimLog: [range] })
      await made.repository.hold(point.id, '')
      assert.match((await carryOut(planned)).waits.join(), /The log of db is left/)
      assert.equal((await segments()).length, 5)
      await made.repository.release(point.id)
      await prune([point.id], { trimLog: [range] })
      assert.equal((await segments()).length, 2)
    })

    it('is left alone while a point of the source is read: its restore may go on along the log', async () => {
      const point = await addPoint('one', 1000, 'db')
      const reader = await made.repository.openPoint(point.id, { signal: uninterrupted() })
      assert.match((await prune([], { trimLog: [range] })).waits.join(), /The log of db is left/)
      assert.equal((await segments()).length, 5)
      await reader.close()
      await prune([], { trimLog: [range] })
      assert.equal((await segments()).length, 2)
    })
  })

  it('refuses the plan of another repository, and an id that never was', async () => {
    const planned = await plan()
    await assert.rejects(carryOut({ ...planned, repository: '0'.repeat(32) }), { code: 'usage' })
    await assert.rejects(plan(['0'.repeat(32)]), { code: 'point-not-found' })
  })

  it('is not held up for ever by a session without a usable record', async () => {
    const one = await addPoint('one')
    const id = 'ab'.repeat(16)
    memory.objects.set(sessionName(id), Buffer.from('not it'))
    const other = 'cd'.repeat(16)
    const record = { session: other, generation: 0, source: 'x', startedAt: '2199-01-01T00:00:00.000Z' }
    memory.objects.set(
      sessionName(other),
      sealRecord(state.keys, 'S', sessionName(other), record, state.ambient.randomBytes(32)),
    )
    const report = await prune([one.id])
    assert.equal(report.sessions, 2)
    assert.deepEqual(names(PREFIX.packs), [])
    await restore(made.repository, (await addPoint('two')).id)
  })
})
