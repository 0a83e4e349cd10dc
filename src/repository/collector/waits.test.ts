import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { openPruning, type Pruning } from '../../../test/support/pruning.ts'
import {
  assertRestores,
  assertSound,
  hand,
  readTree,
  restore,
  someBytes,
  startRequest,
  uninterrupted,
  writeTree,
} from '../../../test/support/repository.ts'
import { PREFIX, sessionName } from '../format/object-names.ts'
import { sealRecord } from '../format/records.ts'

const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0 } as const

describe('a prune beside backups and readers', () => {
  let pruning: Pruning

  beforeEach(async () => {
    pruning = await openPruning()
  })
  afterEach(() => pruning.made.close())

  it('waits for a backup of unknown fate, marks, and leaves removal to the next', async () => {
    const one = await pruning.addPoint('one')
    const two = await pruning.addPoint('two')
    const session = await pruning.made.repository.startPoint(startRequest({ source: 'other' }))
    const report = await pruning.prune([one.id])
    assert.equal(report.packs.removed, 0)
    assert.ok(report.bytesLater > 0)
    assert.match(report.waits.join(), /A backup of other is running/)
    assert.equal(pruning.made.names(PREFIX.generations).length, 2, 'marked, nothing retired')
    writeTree(pruning.tree, { one: someBytes('one', 300_000) })
    await hand(session, pruning.tree)
    const point = await session.commit({ ...SUMMARY, missed: [] })
    const expected = readTree(pruning.tree)
    const next = await pruning.prune()
    // What the session used again, marked as it is, stays until it is written anew.
    await assertRestores(pruning.made.repository, point.id, expected)
    await assertRestores(pruning.made.repository, two.id, two.expected)
    await assertSound(pruning.made.repository)
    assert.deepEqual(next.waits, [])
  })

  it('removes what was marked before a running backup began', async () => {
    const one = await pruning.addPoint('one')
    await pruning.addPoint('two')
    const first = await pruning.made.repository.startPoint(startRequest({ source: 'other' }))
    assert.equal((await pruning.prune([one.id])).packs.removed, 0)
    const second = await pruning.made.repository.startPoint(startRequest({ source: 'another' }))
    await first.discard()
    const report = await pruning.prune()
    assert.ok(report.packs.removed > 0)
    await second.discard()
    await assertSound(pruning.made.repository)
  })

  it('fences a backup that was silent for a day, and never a young one', async () => {
    const one = await pruning.addPoint('one')
    const session = await pruning.made.repository.startPoint(startRequest({ source: 'other' }))
    pruning.laterBy(20)
    assert.equal((await pruning.prune([one.id])).sessions, 0)
    pruning.laterBy(5)
    const planned = await pruning.plan()
    assert.deepEqual(
      planned.sessions.map(({ session: id, why }) => ({ id, why })),
      [{ id: session.id, why: 'silent' }],
    )
    const report = await pruning.carryOut(planned)
    assert.equal(report.sessions, 1)
    assert.ok(report.packs.removed > 0)
    await hand(session, pruning.tree)
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), { code: 'session-fenced' })
    await session.discard()
    assert.deepEqual([...pruning.made.names(PREFIX.sessions), ...pruning.made.names(PREFIX.ends)], [])
    await assertSound(pruning.made.repository)
  })

  it('fences at once a backup whose process is dead, and waits for days for one that lives', async () => {
    const one = await pruning.addPoint('one')
    let isAlive: boolean | null = true
    pruning.made.ambient.process = { identity: 'me', isAlive: () => isAlive }
    await pruning.made.repository.startPoint(startRequest())
    pruning.laterBy(100)
    assert.equal((await pruning.prune([one.id])).sessions, 0)
    isAlive = false
    const report = await pruning.prune()
    assert.equal(report.sessions, 1)
    assert.ok(report.packs.removed > 0)
  })

  it('keeps the data of an expired point while somebody reads it', async () => {
    const one = await pruning.addPoint('one')
    const reader = await pruning.made.repository.openPoint(one.id, { signal: uninterrupted() })
    const report = await pruning.prune([one.id])
    assert.equal(report.packs.removed, 0)
    assert.match(report.waits.join(), /is being read/)
    assert.deepEqual(await pruning.made.repository.points(), [])
    for await (const entry of reader.entries()) if (entry.type === 'file') for await (const _ of reader.stream(entry));
    await reader.close()
    assert.ok((await pruning.prune()).packs.removed > 0)
    assert.deepEqual(pruning.made.names(PREFIX.packs), [])
    await assertSound(pruning.made.repository)
  })

  it('clears the pin of a reader that died, and then removes what it held', async () => {
    const one = await pruning.addPoint('one')
    const reader = await pruning.made.repository.openPoint(one.id, { signal: uninterrupted() })
    await pruning.prune([one.id])
    pruning.laterBy(24 * 7 + 1)
    const report = await pruning.prune()
    assert.equal(report.pins, 1)
    assert.ok(report.packs.removed > 0)
    assert.deepEqual(pruning.made.names(PREFIX.pins), [])
    await reader.close()
  })

  it('is not held up for ever by a session without a usable record', async () => {
    const one = await pruning.addPoint('one')
    const id = 'ab'.repeat(16)
    pruning.made.memory.objects.set(sessionName(id), Buffer.from('not it'))
    const other = 'cd'.repeat(16)
    const record = { session: other, generation: 0, source: 'x', startedAt: '2199-01-01T00:00:00.000Z' }
    pruning.made.memory.objects.set(
      sessionName(other),
      sealRecord(pruning.made.state.keys, 'S', sessionName(other), record, pruning.made.state.ambient.randomBytes(32)),
    )
    const report = await pruning.prune([one.id])
    assert.equal(report.sessions, 2)
    assert.deepEqual(pruning.made.names(PREFIX.packs), [])
    await restore(pruning.made.repository, (await pruning.addPoint('two')).id)
  })
})
