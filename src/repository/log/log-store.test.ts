import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { type FaultyRepository, faultyRepository } from '../../../test/support/faulty-repository.ts'
import { someBytes, startRequest } from '../../../test/support/repository.ts'
import type { SourceLog } from '../api.ts'

const BRANCH = '00000001'
const SEGMENT = '000000010000000000000001'
const at = (seconds: number) => ({ until: `2026-01-01T00:00:0${seconds}Z` })

describe('the log of a source', () => {
  let made: FaultyRepository
  let log: SourceLog

  beforeEach(async () => {
    made = await faultyRepository()
    log = made.repository.log('db')
  })
  afterEach(async () => {
    await made.close()
  })

  const read = async (name = SEGMENT) => {
    const found = await log.read(BRANCH, name)
    return found && { ...found, bytes: found.bytes.toString() }
  }
  const tail = (offset: number, text: string, seconds = 0) =>
    log.putTail(BRANCH, SEGMENT, offset, Buffer.from(text), at(seconds))

  it('gives segments back, also empty and large ones', async () => {
    const contents = { a: Buffer.alloc(0), b: someBytes('b', 3_000_000), c: Buffer.from('x') }
    for (const [name, bytes] of Object.entries(contents)) await log.putSegment(BRANCH, name, bytes, at(1))
    for (const [name, bytes] of Object.entries(contents)) {
      const found = await log.read(BRANCH, name)
      assert.equal(found!.bytes.equals(bytes), true)
      assert.deepEqual({ whole: found!.whole, meta: found!.meta }, { whole: true, meta: at(1) })
    }
    assert.equal(await log.read(BRANCH, 'd'), null)
    assert.equal(await log.read('00000002', 'a'), null)
    assert.equal(await made.repository.log('other').read(BRANCH, 'a'), null)
  })

  it('takes equal bytes again, and refuses others without changing anything', async () => {
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(1))
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(2))
    await assert.rejects(log.putSegment(BRANCH, SEGMENT, Buffer.from('wrong'), at(1)), { code: 'log-conflict' })
    assert.deepEqual(await read(), { bytes: 'right', whole: true, meta: at(1) })
    await log.putHistory('2.history', Buffer.from('one'))
    await log.putHistory('2.history', Buffer.from('one'))
    await assert.rejects(log.putHistory('2.history', Buffer.from('two')), { code: 'log-conflict' })
    assert.equal((await log.readHistory('2.history'))?.toString(), 'one')
    assert.equal(await log.readHistory('3.history'), null)
  })

  const hurt = (name: string) => {
    const bytes = Buffer.from(made.memory.objects.get(name)!)
    bytes[bytes.length - 1]! ^= 1
    made.memory.objects.set(name, bytes)
  }

  it('puts the bytes of the source in the place of a segment or history that is damaged, and says so', async () => {
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(1))
    await log.putHistory('00000002.history', Buffer.from('1'))
    for (const name of [`log/db/segments/${BRANCH}/${SEGMENT}`, 'log/db/histories/00000002.history']) hurt(name)
    await assert.rejects(log.read(BRANCH, SEGMENT), { code: 'repository-damaged' })
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(2))
    assert.deepEqual(await read(), { bytes: 'right', whole: true, meta: at(2) })
    const told = made.ambient.lines.filter(
      ({ level, message }) => level === 'warning' && /DAMAGED PART OF THE LOG/.test(message),
    )
    assert.equal(told.length, 1)
    await assert.rejects(log.putSegment(BRANCH, SEGMENT, Buffer.from('wrong'), at(2)), { code: 'log-conflict' })
    await log.putHistory('00000002.history', Buffer.from('1'))
    assert.equal((await log.readHistory('00000002.history'))?.toString(), '1')
  })

  it('puts whose log it is in its place again only if the points of the source say the same', async () => {
    await log.putHistory('system', Buffer.from('1\n'))
    hurt('log/db/histories/system')
    await log.putHistory('system', Buffer.from('1\n'))
    assert.equal((await log.readHistory('system'))?.toString(), '1\n', 'a log that holds nothing')

    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(1))
    hurt('log/db/histories/system')
    await assert.rejects(log.putHistory('system', Buffer.from('1\n')), { code: 'repository-damaged' })
    const session = await made.repository.startPoint(startRequest({ source: 'db', sourceType: 'postgres' }))
    await session.commit({ kind: 'full', root: '/', positions: { systemId: '1' }, sourceBytes: 0, missed: [] })
    await assert.rejects(log.putHistory('system', Buffer.from('2\n')), { code: 'repository-damaged' })
    await log.putHistory('system', Buffer.from('1\n'))
    assert.equal((await log.readHistory('system'))?.toString(), '1\n')
  })

  it('goes on from what comes before a damaged tail', async () => {
    await tail(0, 'abc', 1)
    await tail(3, 'def', 2)
    hurt(`log/db/tails/${BRANCH}/${SEGMENT}/0000000003`)
    assert.deepEqual(await read(), { bytes: 'abc', whole: false, meta: at(1) })
    assert.deepEqual((await log.list()).tails, [{ branch: BRANCH, name: SEGMENT, available: 3 }])
    await tail(3, 'de', 2)
    assert.deepEqual(await read(), { bytes: 'abcde', whole: false, meta: at(2) })
  })

  it('tells how far pieces reach without reading them: whole ones, tails, what is missing, and what is damaged', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await log.putSegment(BRANCH, name, someBytes(name, 1_000_000), at(1))
    await tail(0, 'abc', 2)
    // Where it is not read; where it is; and one that is cut.
    hurt(`log/db/segments/${BRANCH}/b`)
    made.memory.objects.get(`log/db/segments/${BRANCH}/c`)![200]! ^= 1
    made.memory.objects.set(`log/db/segments/${BRANCH}/d`, Buffer.from('REGAIN'))
    const names = ['a', 'b', 'c', 'd', 'e', SEGMENT]
    const { until } = at(1)
    assert.deepEqual(await log.readUntil(names.map((name) => ({ branch: BRANCH, name }))), [
      until,
      until,
      null,
      null,
      null,
      at(2).until,
    ])
  })

  it('stores what another removed between two looks', async () => {
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(1))
    made.script = (call) =>
      call.operation === 'get'
        ? { kind: 'call', when: 'before', run: () => void made.memory.objects.delete(call.name) }
        : null
    await log.putSegment(BRANCH, SEGMENT, Buffer.from('right'), at(1))
    made.script = () => null
    assert.equal((await read())?.bytes, 'right')
  })

  it('joins tails to the longest run from the beginning, whatever overlaps', async () => {
    await tail(0, 'abc', 1)
    assert.deepEqual(await read(), { bytes: 'abc', whole: false, meta: at(1) })
    await tail(3, 'def', 2)
    await tail(5, 'fgh', 3)
    await tail(1, 'bc', 4)
    assert.deepEqual(await read(), { bytes: 'abcdefgh', whole: false, meta: at(3) })
    await tail(10, 'behind a gap', 5)
    assert.deepEqual(await read(), { bytes: 'abcdefgh', whole: false, meta: at(3) })
    await tail(8, 'ij', 5)
    assert.equal((await read())?.bytes, 'abcdefghijbehind a gap')
  })

  it('knows nothing of a segment whose beginning is missing', async () => {
    await tail(3, 'def')
    assert.equal(await read(), null)
    assert.deepEqual((await log.list()).tails, [])
  })

  it('never lets a shorter tail take the place of a longer one that was durable', async () => {
    await tail(0, 'acknowledged long ago', 3)
    await tail(0, 'acknow', 1)
    assert.deepEqual(await read(), { bytes: 'acknowledged long ago', whole: false, meta: at(3) })
    await tail(0, 'acknowledged long ago, and more', 4)
    assert.deepEqual(await read(), { bytes: 'acknowledged long ago, and more', whole: false, meta: at(4) })
  })

  it('refuses a tail that contradicts the one before it', async () => {
    await tail(0, 'one server', 1)
    await assert.rejects(tail(0, 'another server'), { code: 'log-conflict' })
    await assert.rejects(tail(0, 'two'), { code: 'log-conflict' })
    assert.deepEqual(await read(), { bytes: 'one server', whole: false, meta: at(1) })
  })

  it('drops tails from the end, so that what is left is a run from the beginning at any time', async () => {
    await tail(0, 'abc')
    await tail(3, 'def')
    await tail(6, 'ghi')
    await log.putTail(BRANCH, '000000010000000000000002', 0, Buffer.from('next'), at(1))
    const left: (string | undefined)[] = []
    made.script = (call) =>
      call.operation === 'delete'
        ? {
            kind: 'call',
            when: 'after',
            run: async () => {
              left.push((await read())?.bytes)
            },
          }
        : null
    await log.dropTails(BRANCH, SEGMENT)
    assert.deepEqual(left, ['abcdef', 'abc', undefined])
    assert.equal((await read('000000010000000000000002'))?.bytes, 'next')
    await log.dropTails(BRANCH, SEGMENT)
  })

  it('gives the whole segment to a reader who comes while its tails are dropped', async () => {
    await tail(0, 'abc')
    await tail(3, 'def')
    let finished = false
    made.script = (call) =>
      call.operation === 'list' && call.name.includes('/tails/') && !finished
        ? {
            kind: 'call',
            when: 'before',
            run: async () => {
              finished = true
              await log.putSegment(BRANCH, SEGMENT, Buffer.from('abcdef!'), at(9))
              made.memory.objects.delete(`log/db/tails/${BRANCH}/${SEGMENT}/0000000003`)
            },
          }
        : null
    assert.deepEqual(await read(), { bytes: 'abcdef!', whole: true, meta: at(9) })
  })

  it('lists segments and tails in order, and histories', async () => {
    await log.putSegment('00000002', 'b', Buffer.from('x'), at(1))
    await log.putSegment('00000001', 'c', Buffer.from('x'), at(1))
    await log.putSegment('00000001', 'a', Buffer.from('x'), at(1))
    await log.putTail('00000001', 'c', 0, Buffer.from('stays until dropped'), at(1))
    await log.putTail('00000002', 'c', 0, Buffer.from('0123'), at(1))
    await log.putTail('00000002', 'c', 4, Buffer.from('45'), at(1))
    await log.putTail('00000001', 'd', 0, Buffer.from('1'), at(1))
    await log.putHistory('00000003.history', Buffer.from('h'))
    await log.putHistory('00000002.history', Buffer.from('h'))
    await made.repository.log('other').putSegment('00000001', 'z', Buffer.from('x'), at(1))
    assert.deepEqual(await log.list(), {
      segments: [
        { branch: '00000001', name: 'a' },
        { branch: '00000001', name: 'c' },
        { branch: '00000002', name: 'b' },
      ],
      tails: [
        { branch: '00000001', name: 'd', available: 1 },
        { branch: '00000002', name: 'c', available: 6 },
      ],
      histories: ['00000002.history', '00000003.history'],
    })
  })

  it('is safe to repeat when an answer is lost', async () => {
    for (const work of [
      () => log.putSegment(BRANCH, SEGMENT, Buffer.from('abc'), at(1)),
      () => tail(0, 'ab'),
      () => log.putHistory('h', Buffer.from('h')),
    ])
      for (const kind of ['reject-before', 'reject-after'] as const) {
        let failed = false
        made.script = () => {
          if (failed) return null
          failed = true
          return { kind }
        }
        await assert.rejects(work(), { code: 'storage-unavailable' })
        await work()
      }
    assert.equal((await read())?.bytes, 'abc')
  })
})
