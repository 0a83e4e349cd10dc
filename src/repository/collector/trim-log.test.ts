import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { openPruning, type Pruning } from '../../../test/support/pruning.ts'
import { assertSound, startRequest, uninterrupted, verify } from '../../../test/support/repository.ts'
import { trimPrefix } from '../format/object-names.ts'

describe('the removal of log', () => {
  let pruning: Pruning

  beforeEach(async () => {
    pruning = await openPruning()
  })
  afterEach(() => pruning.made.close())

  const log = () => pruning.made.repository.log('db')
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
    const planned = await pruning.plan([], { trimLog: [range] })
    assert.deepEqual(
      planned.trimLog.map((trim) => trim.segments),
      [3],
    )
    const report = await pruning.carryOut(planned)
    assert.equal(report.logSegments, 3)
    assert.deepEqual(await segments(), ['3', '4'])
    assert.deepEqual((await log().list()).tails, [])
    await assertSound(pruning.made.repository)
    await pruning.prune([], { trimLog: [{ ...range, to: '4' }] })
    assert.deepEqual(await segments(), ['4'])
    assert.equal(pruning.made.names(trimPrefix('db')).length, 1)
    await assertSound(pruning.made.repository)
    const trims = pruning.made.names(trimPrefix('db'))
    for (const name of trims) pruning.made.memory.objects.set(name, Buffer.from('forged'))
    const { problems } = await verify(pruning.made.repository)
    assert.deepEqual(
      problems.map(({ kind }) => kind),
      ['changed', 'missing'],
    )
  })

  it('is told from a loss wherever it is cut short', async () => {
    const planned = await pruning.plan([], { trimLog: [range] })
    const kept = new Map(pruning.made.memory.objects)
    for (let calls = 1; ; calls++) {
      pruning.made.putBack(kept)
      let call = 0
      pruning.made.script = () => (++call >= calls ? { kind: 'reject-before' } : null)
      const failed = await pruning.carryOut(planned).then(
        () => false,
        () => true,
      )
      pruning.made.script = () => null
      await assertSound(pruning.made.repository)
      if (!failed) break
    }
  })

  it('is left alone while a backup of the source runs, or when there is a point that was not weighed', async () => {
    const session = await pruning.made.repository.startPoint(startRequest({ source: 'db' }))
    const first = await pruning.prune([], { trimLog: [range] })
    assert.match(first.waits.join(), /The log of db is left/)
    assert.equal((await segments()).length, 5)
    const planned = await pruning.plan([], { trimLog: [range] })
    await session.discard()
    await pruning.addPoint('one', 1000, 'db')
    const second = await pruning.carryOut(planned)
    assert.match(second.waits.join(), /The log of db is left/)
    assert.equal((await segments()).length, 5)
    await pruning.prune([], { trimLog: [range] })
    assert.equal((await segments()).length, 2)
  })

  it('is left alone when a point that was to go is held since: it needs the log of its own backup', async () => {
    const point = await pruning.addPoint('one', 1000, 'db')
    await pruning.addPoint('two', 1000, 'db')
    const planned = await pruning.plan([point.id], { trimLog: [range] })
    await pruning.made.repository.hold(point.id, '')
    assert.match((await pruning.carryOut(planned)).waits.join(), /The log of db is left/)
    assert.equal((await segments()).length, 5)
    await pruning.made.repository.release(point.id)
    await pruning.prune([point.id], { trimLog: [range] })
    assert.equal((await segments()).length, 2)
  })

  it('is left alone while a point of the source is read: its restore may go on along the log', async () => {
    const point = await pruning.addPoint('one', 1000, 'db')
    const reader = await pruning.made.repository.openPoint(point.id, { signal: uninterrupted() })
    assert.match((await pruning.prune([], { trimLog: [range] })).waits.join(), /The log of db is left/)
    assert.equal((await segments()).length, 5)
    await reader.close()
    await pruning.prune([], { trimLog: [range] })
    assert.equal((await segments()).length, 2)
  })
})
