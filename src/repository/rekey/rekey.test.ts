import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import {
  age,
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  hand,
  openTestRepository,
  readTree,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  testKey,
  uninterrupted,
  verify,
  writeTree,
} from '../../../test/support/repository.ts'
import type { KeyProvider } from '../../keys/contract.ts'
import { type MemoryStorage, openMemoryStorage } from '../../storage/memory.ts'
import type { RekeyReport, Repository } from '../api.ts'

/** A new data key: all is sealed under it in the end, whatever sleeps, dies or runs beside; and the old one opens nothing. */

const SEGMENT = '000000010000000000000001'
const NEXT = '000000010000000000000002'
const BRANCH = '00000001'
const UNTIL = { until: '2026-01-01T00:00:00.000Z' }
const signal = uninterrupted()

let folder: ReturnType<typeof temporaryFolder>
let data: string
let store: MemoryStorage
let made: TestRepository
let point: string
let expected: Map<string, string>
const opened: Repository[] = []

beforeEach(async () => {
  folder = temporaryFolder()
  data = `${folder.path}/data`
  store = openMemoryStorage()
  made = await createTestRepository(store, folder.path)
  opened.push(made.repository)
  writeTree(data, { 'a.txt': 'first', 'b/large.bin': someBytes('rekey', 3_000_000) })
  age(data)
  point = (await backUp(made.repository, data)).point.id
  expected = readTree(data)
  const log = made.repository.log('db')
  await log.putHistory('system', Buffer.from('1\n'))
  await log.putSegment(BRANCH, SEGMENT, Buffer.alloc(5000, 'one'), UNTIL)
  await log.putTail(BRANCH, NEXT, 0, Buffer.alloc(700, 'two'), UNTIL)
})

afterEach(async () => {
  for (const repository of opened.splice(0)) await repository.close()
  folder.remove()
})

test('everything is sealed under the new key, and the old one opens nothing any more', async () => {
  const spare = await testKey(folder.path)
  await made.repository.addKey(spare, 'spare')
  const before = new Map(store.objects)
  const begun = await begin(made.repository, made.key)
  assert.equal(begun.epoch, 2)
  assert.deepEqual(
    begun.dropped.map(({ label }) => label),
    ['spare'],
  )

  const { repository, report } = await finish()

  assert.deepEqual([report.done, report.waits, report.epoch], [true, [], 2])
  assert.ok(report.packs > 0)
  assert.deepEqual(olderObjects(2), [])
  assert.ok([...store.objects.keys()].every((name) => !/^keys\/[0-9a-f]+-1-/.test(name)))
  await assertAllThere(repository)
  // The store, or a thief, brings the old key objects back: they open what they came with, and nothing that is there now.
  for (const [name, bytes] of before) if (/^keys\/.*-1-/.test(name)) store.objects.set(name, bytes)
  await assert.rejects(openTestRepository(store, spare), { code: 'wrong-key' })
  // What is stored from now on is known by its content as before.
  assert.equal((await backUp(repository, data)).point.bytes.new, 0)
})

test('while it is under way all can be read and written, in either epoch', async () => {
  await begin(made.repository, made.key)
  const during = await open()
  assert.deepEqual(during.keyEpoch, { current: 2, oldest: 1 })
  await assertAllThere(during)
  writeTree(data, { 'c.txt': 'stored while the rekey is under way' })
  const later = (await backUp(during, data)).point.id
  await during.log('db').putTail(BRANCH, NEXT, 0, Buffer.alloc(900, 'two'), UNTIL)
  const { repository, report } = await finish()
  assert.ok(report.done, report.waits.join())
  await assertRestores(repository, later, readTree(data))
  await assertRestores(repository, point, expected)
  assert.equal((await repository.log('db').read(BRANCH, NEXT))?.bytes.length, 900)
  await assertSound(repository)
})

test('a writer that sleeps through it is waited for, and its point is sealed anew afterwards', async () => {
  const session = await made.repository.startPoint(startRequest({ source: 'sleeper' }))
  await hand(session, data)
  await begin(made.repository, made.key)
  const waiting = await finish()
  assert.deepEqual([waiting.report.done, waiting.report.waits.length > 0], [false, true])

  const asleep = await session.commit({ kind: 'full', root: data, positions: {}, sourceBytes: 0, missed: [] })

  const { repository, report } = await finish()
  assert.ok(report.done, report.waits.join())
  await assertRestores(repository, asleep.id, expected)
  await assertAllThere(repository)
  assert.deepEqual(olderObjects(2), [])
})

test('a reader that began before keeps what it reads', async () => {
  const reader = await made.repository.openPoint(point, { signal })
  await begin(made.repository, made.key)
  const waiting = await finish()
  assert.equal(waiting.report.done, false)
  const entry = await reader.entry('b/large.bin')
  let bytes = 0
  for await (const piece of reader.stream(entry!)) bytes += piece.length
  assert.equal(bytes, 3_000_000)
  await reader.close()
  assert.ok((await finish()).report.done)
})

test('whoever opened before and begins after is told to open again, and has done no harm', async () => {
  await begin(made.repository, made.key)
  const { repository, report } = await finish()
  assert.ok(report.done, report.waits.join())
  const old = made.repository
  await assert.rejects(old.startPoint(startRequest()), { code: 'key-replaced' })
  await assert.rejects(old.openPoint(point, { signal }), { code: 'key-replaced' })
  await assert.rejects(verify(old), { code: 'key-replaced' })
  const third = '000000010000000000000003'
  // Sealed in an epoch whose key is gone, and so never told durable: its follower sends it again, by the new key.
  for (const name of [SEGMENT, third])
    await assert.rejects(old.log('db').putSegment(BRANCH, name, Buffer.alloc(5000, 'one'), UNTIL), {
      code: 'key-replaced',
    })
  await assert.rejects(old.log('db').putTail(BRANCH, NEXT, 0, Buffer.alloc(300, 'two'), UNTIL), {
    code: 'key-replaced',
  })
  await assertRestores(repository, point, expected)
  // Whoever follows next goes on before it, and not after.
  assert.deepEqual((await repository.log('db').list()).segments, [{ branch: BRANCH, name: SEGMENT }])
  await repository.log('db').putSegment(BRANCH, third, Buffer.alloc(5000, 'one'), UNTIL)
  assert.equal((await repository.log('db').read(BRANCH, third))?.bytes.length, 5000)
  assert.deepEqual(
    (await repository.log('db').list()).segments.map(({ name }) => name),
    [SEGMENT, third],
  )
  await assertAllThere(repository)
  await repository.log('db').dropTails(BRANCH, NEXT)
  assert.deepEqual(olderObjects(2), [])
})

test('of two that begin at once one wins, and every key opens', async () => {
  const other = await open()
  const spare = await testKey(folder.path)
  await made.repository.addKey(spare, 'spare')
  const outcomes = await Promise.allSettled([begin(made.repository, made.key, spare), begin(other, made.key, spare)])
  assert.ok(outcomes.some(({ status }) => status === 'fulfilled'))
  for (const key of [made.key, spare]) opened.push(await openTestRepository(store, key))
  const { repository, report } = await finish()
  assert.ok(report.done)
  await assertSound(repository)
})

test('a key that is added while it is under way opens all of it', async () => {
  await begin(made.repository, made.key)
  const spare = await testKey(folder.path)
  await (await open()).addKey(spare, 'spare')
  const repository = await open(spare)
  await assertAllThere(repository)
})

describe('cut short at any change of the store', () => {
  for (const half of [0, 1])
    test(`it goes on where it was (${half === 0 ? 'even' : 'odd'} changes)`, async () => {
      const start = new Map(store.objects)
      for (let last = half; ; last += 2) {
        store.objects.clear()
        for (const [name, bytes] of start) store.objects.set(name, bytes)
        const isCut = await isCutShort(last)
        const repository = await open()
        await assertRestores(repository, point, expected)
        if (repository.keyEpoch.current === 1) await begin(repository, made.key)
        const { report, repository: done } = await finish()
        assert.ok(report.done, `cut at ${last}: ${report.waits.join()}`)
        assert.deepEqual(olderObjects(2), [], `cut at ${last}`)
        await assertAllThere(done)
        for (const one of opened.splice(1)) await one.close()
        if (!isCut) return
      }
    })
})

/** Runs a whole rekey in which every change after so many fails, as for a process that dies. */
async function isCutShort(changes: number): Promise<boolean> {
  let left = changes
  const count =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (left-- <= 0) throw new Error('killed')
      return call(...args)
    }
  const dying = { ...store, put: count(store.put), create: count(store.create), delete: count(store.delete) }
  try {
    const first = await openTestRepository(dying, made.key)
    opened.push(first)
    await begin(first, made.key)
    const second = await openTestRepository(dying, made.key)
    opened.push(second)
    await second.rekey({ signal, progress: () => undefined })
    return false
  } catch (error) {
    if ((error as Error).message !== 'killed') throw error
    return true
  }
}

function begin(repository: Repository, ...keys: KeyProvider[]) {
  return repository.beginRekey(keys.map((provider, i) => ({ provider, label: `key ${i}` })))
}

async function open(key: KeyProvider = made.key): Promise<Repository> {
  const repository = await openTestRepository(store, key)
  opened.push(repository)
  return repository
}

async function finish(): Promise<{ repository: Repository; report: RekeyReport }> {
  const repository = await open()
  const report = await repository.rekey({ signal, progress: () => undefined })
  // As a later command finds it: with the keys that are left.
  return { repository: report.done ? await open() : repository, report }
}

async function assertAllThere(repository: Repository): Promise<void> {
  await assertRestores(repository, point, expected)
  const log = repository.log('db')
  assert.ok((await log.read(BRANCH, SEGMENT))?.bytes.equals(Buffer.alloc(5000, 'one')))
  assert.ok((await log.read(BRANCH, NEXT))?.bytes.equals(Buffer.alloc(700, 'two')))
  assert.equal((await log.readHistory('system'))?.toString(), '1\n')
  await assertSound(repository)
}

/** Sealed objects of an epoch before, but ended sessions, which are never sealed anew. */
function olderObjects(epoch: number): string[] {
  return [...store.objects]
    .filter(
      ([name, bytes]) =>
        bytes.toString('latin1', 0, 6) === 'REGAIN' && !name.startsWith('sessions/') && bytes.readUInt32LE(24) < epoch,
    )
    .map(([name]) => name)
}
