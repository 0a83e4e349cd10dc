import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { openPruning, type Pruning } from '../../../test/support/pruning.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  hand,
  readTree,
  SOURCE,
  someBytes,
  startRequest,
  writeTree,
} from '../../../test/support/repository.ts'
import { endName, PREFIX, receiptName, sessionName } from '../format/object-names.ts'

const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0 } as const

describe('a prune', () => {
  let pruning: Pruning

  beforeEach(async () => {
    pruning = await openPruning()
  })
  afterEach(() => pruning.made.close())

  it('removes a point and what only that needs, and leaves the others whole', async () => {
    const one = await pruning.addPoint('one')
    const two = await pruning.addPoint('two')
    const before = pruning.made.names(PREFIX.packs).length
    const planned = await pruning.plan([one.id])
    assert.deepEqual(
      planned.expire.map(({ id, source, reason }) => ({ id, source, reason })),
      [{ id: one.id, source: SOURCE, reason: 'a test' }],
    )
    assert.equal(planned.packs.total, before)
    assert.deepEqual([...new Set(planned.packs.remove.map(({ why }) => why))], ['dead'])
    assert.equal(pruning.made.names(PREFIX.packs).length, before, 'a plan changes nothing')
    const report = await pruning.carryOut(planned)
    assert.deepEqual(report.expired, [one.id])
    assert.equal(report.packs.removed, planned.packs.remove.length + planned.packs.repack.length)
    assert.deepEqual(report.waits, [])
    assert.equal(report.bytesLater, 0)
    assert.deepEqual(
      (await pruning.made.repository.points()).map(({ id }) => id),
      [two.id],
    )
    await assertRestores(pruning.made.repository, two.id, two.expected)
    await assertSound(pruning.made.repository)
    assert.deepEqual(pruning.made.names(PREFIX.sessions), [sessionName(two.id)])
    assert.deepEqual(pruning.made.names(PREFIX.ends), [endName(two.id)])
    assert.deepEqual(pruning.made.names(PREFIX.receipts), [receiptName(two.id)])
    assert.equal(pruning.made.ambient.lines.filter(({ level }) => level !== 'debug').length, 0)
  })

  it('changes nothing when there is nothing to do', async () => {
    const one = await pruning.addPoint('one')
    const before = new Map(pruning.made.memory.objects)
    const report = await pruning.prune()
    assert.deepEqual([...pruning.made.memory.objects.keys()].sort(), [...before.keys()].sort())
    assert.equal(report.bytesFreed, 0)
    await assertRestores(pruning.made.repository, one.id, one.expected)
  })

  it('frees what it said', async () => {
    const one = await pruning.addPoint('one')
    await pruning.addPoint('two')
    const size = () =>
      [...pruning.made.names(PREFIX.packs), ...pruning.made.names(PREFIX.index)].reduce(
        (sum, name) => sum + (pruning.made.memory.objects.get(name)?.length ?? 0),
        0,
      )
    const before = size()
    const planned = await pruning.plan([one.id])
    const report = await pruning.carryOut(planned)
    assert.equal(before - size(), report.bytesFreed)
    assert.ok(report.bytesFreed > 0)
  })

  it('removes nothing when a point can not be read whole, or is gone without having been removed', async () => {
    const one = await pruning.addPoint('one')
    const two = await pruning.addPoint('two')
    const whole = new Map(pruning.made.memory.objects)
    const damages: (() => void)[] = [
      () => pruning.made.memory.objects.delete(pruning.made.names(PREFIX.packs)[0]!),
      () => pruning.made.memory.objects.delete(pruning.made.names(PREFIX.index)[0]!),
      () => pruning.made.memory.objects.set(endName(two.id), Buffer.from('not it')),
      () => pruning.made.memory.objects.delete(endName(two.id)),
      () => pruning.made.memory.objects.delete(sessionName(two.id)),
      () => pruning.made.memory.objects.set(pruning.made.names(PREFIX.index)[0]!, Buffer.from('not it')),
    ]
    for (const damage of damages) {
      pruning.made.putBack(whole)
      const planned = await pruning.plan()
      damage()
      const packs = pruning.made.names(PREFIX.packs)
      await assert.rejects(pruning.plan(), { code: 'repository-damaged' })
      // A plan made before, that wants all.
      planned.packs.remove = packs.map((name) => ({ name: name.slice(-64), bytes: 1, needed: 0, why: 'dead' }))
      await assert.rejects(pruning.carryOut(planned), { code: 'repository-damaged' })
      assert.deepEqual(pruning.made.names(PREFIX.packs), packs)
    }
    pruning.made.putBack(whole)
    pruning.made.memory.objects.delete(endName(two.id))
    // The loss accepted by name, the rest goes on.
    await pruning.prune([two.id])
    await assertRestores(pruning.made.repository, one.id, one.expected)
    await assertSound(pruning.made.repository)
  })

  it('removes no data where there is no point and no word of one', async () => {
    const one = await pruning.addPoint('one')
    const lost = new Map(
      [...pruning.made.memory.objects].filter(([name]) => /^(?:sessions|ends|receipts)\//.test(name)),
    )
    for (const name of lost.keys()) pruning.made.memory.objects.delete(name)
    const packs = pruning.made.names(PREFIX.packs)
    const planned = await pruning.plan()
    assert.deepEqual(planned.packs.remove, [])
    assert.match(planned.waits.join(), /no recovery point/)
    await pruning.carryOut(planned)
    assert.deepEqual(pruning.made.names(PREFIX.packs), packs)
    for (const [name, bytes] of lost) pruning.made.memory.objects.set(name, bytes)
    await assertRestores(pruning.made.repository, one.id, one.expected)
  })

  it('does less than a plan that the repository has outgrown, never more', async () => {
    const one = await pruning.addPoint('one')
    const planned = await pruning.plan([one.id])
    const two = await pruning.addPoint('one', 300_000, 'other')
    const three = await pruning.addPoint('three', 300_000, 'other')
    await pruning.prune([three.id])
    const stray = pruning.made.names(PREFIX.packs)
    await pruning.carryOut(planned)
    await assertRestores(pruning.made.repository, two.id, two.expected)
    await assertSound(pruning.made.repository)
    for (const name of stray)
      assert.ok(pruning.made.memory.objects.has(name) || planned.packs.remove.some((pack) => name.endsWith(pack.name)))
  })

  it('writes anew what is needed of packs that are mostly dead, and frees the rest', async () => {
    writeTree(pruning.tree, Object.fromEntries([1, 2, 3, 4, 5].map((i) => [`f${i}`, someBytes(`f${i}`, 200_000)])))
    const { point: one } = await backUp(pruning.made.repository, pruning.tree)
    for (let i = 2; i <= 5; i++) rmSync(join(pruning.tree, `f${i}`))
    const { point: two } = await backUp(pruning.made.repository, pruning.tree)
    const expected = readTree(pruning.tree)
    const size = () =>
      pruning.made
        .names(PREFIX.packs)
        .reduce((sum, name) => sum + (pruning.made.memory.objects.get(name)?.length ?? 0), 0)
    const before = size()
    const planned = await pruning.plan([one.id])
    const sparse = planned.packs.repack.filter(({ why }) => why === 'sparse')
    assert.equal(sparse.length, 1)
    assert.ok(sparse[0]!.needed > 0.19 && sparse[0]!.needed < 0.21)
    const report = await pruning.carryOut(planned)
    assert.equal(report.packs.repacked, planned.packs.repack.length)
    assert.ok(before - size() > 780_000)
    await assertRestores(pruning.made.repository, two.id, expected)
    await assertSound(pruning.made.repository)
    const next = await pruning.plan()
    assert.deepEqual([next.packs.remove, next.packs.repack], [[], []])
    // Pages and content stay in packs of their own.
    const reopened = await backUp(pruning.made.repository, pruning.tree)
    assert.equal(reopened.point.bytes.new, 0)
  })

  it('leaves a sparse pack that can not be read, and everything in it', async () => {
    writeTree(pruning.tree, Object.fromEntries([1, 2, 3, 4, 5].map((i) => [`f${i}`, someBytes(`f${i}`, 200_000)])))
    const { point: one } = await backUp(pruning.made.repository, pruning.tree)
    for (let i = 2; i <= 5; i++) rmSync(join(pruning.tree, `f${i}`))
    await backUp(pruning.made.repository, pruning.tree)
    const planned = await pruning.plan([one.id])
    const largest = pruning.made
      .names(PREFIX.packs)
      .sort((a, b) => pruning.made.memory.objects.get(b)!.length - pruning.made.memory.objects.get(a)!.length)[0]!
    const bytes = pruning.made.memory.objects.get(largest)!
    for (let at = 200; at < bytes.length - 5000; at += 1000) bytes[at]! ^= 1
    const report = await pruning.carryOut(planned)
    assert.ok(pruning.made.memory.objects.has(largest))
    assert.ok(report.packs.repacked < planned.packs.repack.length)
    assert.match(pruning.made.ambient.lines.map(({ message }) => message).join(), /is not written anew/)
  })

  it('writes anew what was marked and is needed after all', async () => {
    const one = await pruning.addPoint('one')
    const session = await pruning.made.repository.startPoint(startRequest({ source: 'other' }))
    await pruning.prune([one.id])
    writeTree(pruning.tree, { one: someBytes('one', 300_000) })
    await hand(session, pruning.tree)
    const { id } = await session.commit({ ...SUMMARY, missed: [] })
    const expected = readTree(pruning.tree)
    const planned = await pruning.plan()
    assert.ok(planned.packs.repack.some(({ why }) => why === 'marked'))
    await pruning.carryOut(planned)
    await assertRestores(pruning.made.repository, id, expected)
    await assertSound(pruning.made.repository)
    const next = await pruning.plan()
    assert.deepEqual([next.packs.remove, next.packs.repack], [[], []])
    assert.equal(
      (await backUp(pruning.made.repository, pruning.tree, { source: 'other' })).point.bytes.new,
      0,
      'none is marked any more',
    )
  })

  it('removes packs that no index names, once no backup runs', async () => {
    const one = await pruning.addPoint('one')
    const indexed = pruning.made.names(PREFIX.index)
    const session = await pruning.made.repository.startPoint(startRequest())
    writeTree(pruning.tree, { new: someBytes('new', 400_000) })
    await hand(session, pruning.tree)
    await session.allRead()
    await pruning.made.state.pool.flush({ type: 'flush', session: (session as unknown as { number: number }).number })
    await session.discard()
    for (const name of pruning.made.names(PREFIX.index))
      if (!indexed.includes(name)) pruning.made.memory.objects.delete(name)
    const planned = await pruning.plan()
    assert.ok(planned.packs.remove.some(({ why }) => why === 'unindexed'))
    await pruning.carryOut(planned)
    await assertRestores(pruning.made.repository, one.id, one.expected)
    assert.deepEqual((await pruning.plan()).packs.remove, [])
  })

  it('refuses the plan of another repository, and an id that never was', async () => {
    const planned = await pruning.plan()
    await assert.rejects(pruning.carryOut({ ...planned, repository: '0'.repeat(32) }), { code: 'usage' })
    await assert.rejects(pruning.plan(['0'.repeat(32)]), { code: 'point-not-found' })
  })
})
