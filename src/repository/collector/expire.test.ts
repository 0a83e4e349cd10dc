import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { openPruning, type Pruning } from '../../../test/support/pruning.ts'
import { assertRestores, assertSound, verify } from '../../../test/support/repository.ts'
import { isRegainError } from '../../errors.ts'
import { endName, expiredName, PREFIX, receiptName, sessionName } from '../format/object-names.ts'
import { sealRecord } from '../format/records.ts'
import { readExpired } from '../points/expired.ts'
import { expirePoint } from './expire.ts'

describe('the removal of points', () => {
  let pruning: Pruning

  beforeEach(async () => {
    pruning = await openPruning()
  })
  afterEach(() => pruning.made.close())

  it('is completed by the next one, wherever an expiry was cut short', async () => {
    const victim = await pruning.addPoint('one')
    const kept = await pruning.addPoint('two')
    const state0 = new Map(pruning.made.memory.objects)
    for (let calls = 1; ; calls++) {
      pruning.made.putBack(state0)
      const planned = await pruning.plan([victim.id])
      let call = 0
      pruning.made.script = () => (++call >= calls ? { kind: 'reject-before' } : null)
      const failed = await pruning.carryOut(planned).then(
        () => false,
        (error: unknown) => {
          assert.ok(isRegainError(error, 'storage-unavailable'), String(error))
          return true
        },
      )
      pruning.made.script = () => null
      if (!failed) break
      const points = (await pruning.made.repository.points()).map(({ id }) => id)
      for (const id of points)
        await assertRestores(pruning.made.repository, id, id === kept.id ? kept.expected : victim.expected)
      await assertSound(pruning.made.repository)
      // Without being asked again, if the point does not count any more.
      await pruning.prune(points.includes(victim.id) ? [victim.id] : [])
      assert.deepEqual(pruning.made.names(PREFIX.sessions), [sessionName(kept.id)])
      assert.deepEqual(pruning.made.names(PREFIX.ends), [endName(kept.id)])
      assert.deepEqual(pruning.made.names(PREFIX.receipts), [receiptName(kept.id)])
      await assertRestores(pruning.made.repository, kept.id, kept.expected)
      await assertSound(pruning.made.repository)
      const planned2 = await pruning.plan()
      assert.deepEqual(planned2.packs.remove, [], `call ${calls}`)
      assert.deepEqual(planned2.expire, [])
    }
  })

  it('does not complete the removal of a point that counts still and that the rules now keep', async () => {
    const victim = await pruning.addPoint('one')
    await pruning.addPoint('two')
    const planned = await pruning.plan([victim.id])
    pruning.made.script = ({ operation }) => (operation === 'delete' ? { kind: 'reject-before' } : null)
    await assert.rejects(pruning.carryOut(planned), { code: 'storage-unavailable' })
    pruning.made.script = () => null
    assert.deepEqual(pruning.expired(), [victim.id])
    assert.deepEqual((await pruning.plan()).expire, [])
    assert.deepEqual((await pruning.prune()).expired, [])
    await assertRestores(pruning.made.repository, victim.id, victim.expected)
    await assertSound(pruning.made.repository)
    assert.deepEqual((await pruning.prune([victim.id])).expired, [victim.id])
    await assertSound(pruning.made.repository)
  })

  it('clears a commit that came after its session was fenced and cleared away', async () => {
    const one = await pruning.addPoint('one')
    const end = pruning.made.memory.objects.get(endName(one.id))!
    pruning.made.memory.objects.delete(sessionName(one.id))
    pruning.made.memory.objects.delete(receiptName(one.id))
    pruning.made.memory.objects.set(endName(one.id), end)
    await pruning.prune()
    assert.deepEqual(pruning.made.names(PREFIX.ends), [])
  })

  it('forgets an expired point when nothing can ask about it any more', async () => {
    const one = await pruning.addPoint('one')
    const two = await pruning.addPoint('two')
    await pruning.prune([one.id])
    pruning.laterBy(24 * 31)
    await pruning.prune()
    assert.deepEqual(pruning.expired(), [one.id], 'the next point names it')
    const three = await pruning.addPoint('three')
    const four = await pruning.addPoint('four')
    await pruning.prune([two.id, three.id])
    await pruning.prune()
    assert.deepEqual(pruning.expired(), [three.id, two.id].sort())
    pruning.laterBy(24 * 31)
    await pruning.prune()
    assert.deepEqual(pruning.expired(), [three.id])
    await assertSound(pruning.made.repository)
    await assertRestores(pruning.made.repository, four.id, four.expected)
  })

  it('explains a point that two removed at once, in any order of their steps and whichever record is the last', async () => {
    const { signal } = new AbortController()
    const { randomBytes } = pruning.made.ambient
    let blank = 0
    for (let nth = 1, isBetween = true; isBetween; nth++) {
      const { id } = await pruning.addPoint(`one ${nth}`, 1000)
      const next = await pruning.addPoint(`two ${nth}`, 1000)
      const expire = async (random: string) => {
        // Which the record's name ends with.
        pruning.made.ambient.randomBytes = (bytes) => (bytes === 16 ? Buffer.alloc(16, random) : randomBytes(bytes))
        await expirePoint(pruning.made.state, { id, reason: 'a test' }, signal)
      }
      let calls = 0
      isBetween = false
      pruning.made.script = () => {
        if (++calls !== nth) return null
        pruning.made.script = () => null
        isBetween = true
        const drawn = pruning.made.ambient.randomBytes
        const whole = () => expire('a').finally(() => Object.assign(pruning.made.ambient, { randomBytes: drawn }))
        return { kind: 'call', when: 'before', run: whole }
      }
      await expire('z')
      pruning.made.script = () => null
      pruning.made.ambient.randomBytes = randomBytes
      for (const record of (await readExpired(pruning.made.state, id)).values()) if (record.commit === '') blank++
      await assertSound(pruning.made.repository)
      await pruning.prune()
      assert.deepEqual(
        [...pruning.made.names(PREFIX.sessions), ...pruning.made.names(PREFIX.ends)].filter((name) =>
          name.includes(id),
        ),
        [],
      )
      await assertRestores(pruning.made.repository, next.id, next.expected)
      await pruning.prune([next.id])
    }
    assert.ok(blank > 0, 'none came too late to find the commit')
  })

  it('tells the reason of whoever removed a point first and knew it, however many did and in whatever order they are listed', async () => {
    const { made } = pruning
    const { id } = await pruning.addPoint('one')
    made.memory.objects.delete(sessionName(id))
    const known = { session: id, commit: 'c'.repeat(64), source: 'files', committedAt: '2026-01-01T00:00:00.000Z' }
    const records = [
      { ...known, expiredAt: '2026-03-03T00:00:00.000Z', reason: 'later' },
      { ...known, expiredAt: '2026-02-02T00:00:00.000Z', reason: 'first' },
      { ...known, source: '', committedAt: '', expiredAt: '2026-01-01T00:00:00.000Z', reason: 'blank' },
    ]
    for (const digits of ['012', '210', '120']) {
      for (const [at, record] of records.entries()) {
        const name = expiredName(id, digits[at]!.repeat(32))
        made.memory.objects.set(name, sealRecord(made.state.keys, 'X', name, record, made.ambient.randomBytes(32)))
      }
      assert.deepEqual(
        (await pruning.plan()).expire.map(({ reason, source }) => [reason, source]),
        [['first', 'files']],
      )
    }
  })

  it('tells a forged expiry from a true one', async () => {
    const one = await pruning.addPoint('one')
    await pruning.addPoint('two')
    for (const name of [sessionName(one.id), endName(one.id), receiptName(one.id)])
      pruning.made.memory.objects.delete(name)
    pruning.made.memory.objects.set(expiredName(one.id, one.id), Buffer.from('it expired, believe me'))
    const { problems } = await verify(pruning.made.repository)
    assert.deepEqual(
      problems.map(({ object, kind }) => ({ object, kind })),
      [
        { object: expiredName(one.id, one.id), kind: 'changed' },
        { object: endName(one.id), kind: 'missing' },
      ],
    )
  })
})
