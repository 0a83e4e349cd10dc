import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { type FaultyRepository, faultyRepository } from '../../../test/support/faulty-repository.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  hand,
  openTestRepository,
  readTree,
  SOURCE,
  someBytes,
  startRequest,
  uninterrupted,
  writeTree,
} from '../../../test/support/repository.ts'
import { isRegainError } from '../../errors.ts'
import type { Fault } from '../../storage/fault.ts'
import { endName, generationName, lastComponent, PREFIX, sessionName } from '../format/object-names.ts'
import { sealRecord } from '../format/records.ts'
import { loadChunkIndex } from '../packs/chunk-index.ts'

const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0 } as const

/** What a collector on another host does is done by hand here, object by object: it is not written yet. */
describe('the writer of the removal protocol', () => {
  let tree: string
  let made: FaultyRepository

  beforeEach(async () => {
    made = await faultyRepository()
    tree = join(made.folder, 'tree')
    writeTree(tree, { a: 'first', 'b/c': someBytes('c', 200_000) })
  })
  afterEach(async () => {
    await made.close()
  })

  function putGeneration(generation: number, tombstones: string[] = []): void {
    const name = generationName(generation)
    made.memory.objects.set(
      name,
      sealRecord(made.state.keys, 'G', name, { generation, tombstones }, made.state.ambient.randomBytes(32)),
    )
  }

  function fence(session: string): void {
    const name = endName(session)
    const end = { session, end: 'aborted', reason: 'a collector did not wait' } as const
    made.memory.objects.set(name, sealRecord(made.state.keys, 'E', name, end, made.state.ambient.randomBytes(32)))
  }

  it('leaves one session, one end and one receipt for each point, and nothing of what was discarded', async () => {
    const { point } = await backUp(made.repository, tree)
    assert.deepEqual(made.names(PREFIX.sessions), [sessionName(point.id)])
    assert.deepEqual(made.names(PREFIX.ends), [endName(point.id)])
    assert.equal(made.names(PREFIX.receipts).length, 1)
    assert.deepEqual(made.names(PREFIX.pins), [])
    const session = await made.repository.startPoint(startRequest())
    await hand(session, tree)
    await session.discard()
    await session.discard()
    assert.deepEqual(made.names(PREFIX.sessions), [sessionName(point.id)])
    assert.deepEqual(made.names(PREFIX.ends), [endName(point.id)])
    assert.deepEqual(made.names(PREFIX.pins), [])
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }))
    assert.equal((await made.repository.points()).length, 1)
  })

  it('takes its steps in the order of the protocol', async () => {
    const calls: string[] = []
    await backUp(made.repository, tree)
    made.script = (call) => {
      calls.push(`${call.operation} ${call.name.split('/')[0]}`)
      return null
    }
    const session = await made.repository.startPoint(startRequest({ kind: 'full' }))
    const begun = calls.slice(calls.indexOf('create sessions') - 1)
    // 1 generations, then the session naming the newest; 2 again; 3 tombstones, index, then the packs.
    // Between, the look for a newer key epoch, which must come after the session is there.
    const first = ['list generations', 'create sessions', 'size keys', 'list generations', 'get generations']
    assert.deepEqual(begun.slice(0, 5), first)
    assert.equal(begun[5], 'list index')
    const packsListed = begun.indexOf('list packs')
    assert.ok(
      packsListed > begun.lastIndexOf('get index', packsListed) &&
        begun.slice(6, packsListed).every((c) => c === 'get index'),
    )
    // The pin before the proof that the point counts, and that before anything is read of it.
    const pinned = begun.indexOf('create pins')
    assert.deepEqual(begun.slice(pinned + 1, pinned + 4), ['size keys', 'size ends', 'size sessions'])
    calls.length = 0
    writeTree(tree, { new: someBytes('new', 100_000) })
    await hand(session, tree)
    await session.commit({ ...SUMMARY, missed: [] })
    const writes = calls.filter((call) => !call.startsWith('list') && !call.endsWith('pins') && call !== 'get packs')
    // 4 packs, then their index entries; 5 the end; 6 the session must still be there; then the receipt.
    assert.deepEqual(
      [...new Set(writes)],
      ['put packs', 'put index', 'create ends', 'get ends', 'size sessions', 'create receipts'],
    )
  })

  it('refuses to commit what a collector has fenced, and nothing of it is visible', async () => {
    const session = await made.repository.startPoint(startRequest())
    await hand(session, tree)
    fence(session.id)
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), { code: 'session-fenced' })
    await session.discard()
    assert.deepEqual(await made.repository.points(), [])
    assert.deepEqual([...made.names(PREFIX.sessions), ...made.names(PREFIX.ends), ...made.names(PREFIX.receipts)], [])
    const { point } = await backUp(made.repository, tree)
    assert.equal(point.bytes.new, 0, 'what the fenced session had stored is used again')
    await assertRestores(made.repository, point.id, readTree(tree))
  })

  it('refuses to report success when the session was taken away after its end was written', async () => {
    const session = await made.repository.startPoint(startRequest())
    await hand(session, tree)
    made.script = (call) =>
      call.operation === 'create' && call.name === endName(session.id)
        ? { kind: 'call', when: 'after', run: () => void made.memory.objects.delete(sessionName(session.id)) }
        : null
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), { code: 'session-fenced' })
    await session.discard()
    assert.deepEqual(await made.repository.points(), [])
  })

  for (const [what, fault] of Object.entries<Fault>({
    'the answer is lost': { kind: 'reject-after' },
    'the call is lost': { kind: 'reject-before' },
  }))
    it(`commits when ${what} at the end`, async () => {
      const session = await made.repository.startPoint(startRequest())
      await hand(session, tree)
      let done = false
      made.script = (call) => {
        if (done || call.operation !== 'create' || call.name !== endName(session.id)) return null
        done = true
        return fault
      }
      const point = await session.commit({ ...SUMMARY, missed: [] })
      assert.deepEqual(
        (await made.repository.points()).map(({ id }) => id),
        [point.id],
      )
      await assertRestores(made.repository, point.id, readTree(tree))
    })

  it('ends the packs of what was read while entries still follow, and fails if they can not be stored', async () => {
    const begin = async () => {
      const session = await made.repository.startPoint(startRequest())
      for (const name of ['x', 'y']) {
        const entry = { path: name, type: 'file', mode: 0o600, uid: 0, gid: 0, mtime: '0' } as const
        const stream = await session.addStream({ ...entry, size: 1000 }, 'content')
        await stream.write(randomBytes(1000))
        await stream.end()
        if (name === 'x') await session.allRead()
      }
      return session
    }
    const point = await (await begin()).commit({ ...SUMMARY, missed: [] })
    assert.equal(made.names(PREFIX.packs).length, 3, 'x, y and the listing')

    let refused = 0
    made.script = ({ name }) => (name.startsWith(PREFIX.packs) && refused++ === 0 ? { kind: 'reject-before' } : null)
    const failing = await begin()
      .then((session) => session.commit({ ...SUMMARY, missed: [] }))
      .catch((error: unknown) => error)
    assert.ok(isRegainError(failing, 'storage-unavailable'), String(failing))
    made.script = () => null
    assert.deepEqual(
      (await made.repository.points()).map(({ id }) => id),
      [point.id],
    )
    await assertSound(made.repository)
  })

  it('reports success when all that fails is the receipt or the unpinning, which others make good', async () => {
    await backUp(made.repository, tree)
    for (const [operation, prefix] of [
      ['create', PREFIX.receipts],
      ['delete', PREFIX.pins],
    ] as const) {
      const session = await made.repository.startPoint(startRequest())
      await hand(session, tree)
      made.script = (call) =>
        call.operation === operation && call.name.startsWith(prefix) ? { kind: 'reject-before' } : null
      const point = await session.commit({ ...SUMMARY, missed: [] })
      assert.ok((await made.repository.points()).some(({ id }) => id === point.id))
      assert.equal(made.ambient.lines.at(-1)?.level, 'warning')
      made.script = () => null
      await backUp(made.repository, tree)
      assert.equal(made.names(PREFIX.receipts).length, made.names(PREFIX.ends).length)
    }
    await assertSound(made.repository)
  })

  it('starts over with a new session when a generation comes between its two looks', async () => {
    const sessions: string[] = []
    made.script = (call) => {
      if (call.operation !== 'create' || !call.name.startsWith(PREFIX.sessions)) return null
      sessions.push(call.name)
      if (sessions.length > 2) return null
      return { kind: 'call', when: 'after', run: () => putGeneration(sessions.length) }
    }
    const { point } = await backUp(made.repository, tree)
    assert.equal(sessions.length, 3)
    assert.equal(new Set(sessions).size, 3)
    assert.deepEqual(made.names(PREFIX.sessions), [sessionName(point.id)])
  })

  it('starts over when its generation is gone', async () => {
    let gone = false
    made.script = (call) => {
      if (gone || call.operation !== 'get' || call.name !== generationName(0)) return null
      gone = true
      return {
        kind: 'call',
        when: 'before',
        run: () => {
          putGeneration(1)
          made.memory.objects.delete(generationName(0))
        },
      }
    }
    const { point } = await backUp(made.repository, tree)
    assert.deepEqual(made.names(PREFIX.sessions), [sessionName(point.id)])
  })

  it('gives up, and leaves no session, when removal overtakes it for ever', async () => {
    let generation = 0
    made.script = (call) =>
      call.operation === 'create' && call.name.startsWith(PREFIX.sessions)
        ? { kind: 'call', when: 'after', run: () => putGeneration(++generation) }
        : null
    await assert.rejects(made.repository.startPoint(startRequest()), { code: 'storage-unavailable' })
    assert.deepEqual(made.names(PREFIX.sessions), [])
  })

  it('never uses the name of a session again when it is not known whether it was made', async () => {
    const sessions: string[] = []
    made.script = (call) => {
      if (call.operation !== 'create' || !call.name.startsWith(PREFIX.sessions)) return null
      sessions.push(call.name)
      return sessions.length === 1 ? { kind: 'reject-after' } : null
    }
    const { point } = await backUp(made.repository, tree)
    assert.equal(new Set(sessions).size, 2)
    assert.equal(sessions[1], sessionName(point.id))
  })

  it('refuses when the generation is gone from a repository that holds data, and makes the first of one that does not', async () => {
    made.memory.objects.delete(generationName(0))
    await backUp(made.repository, tree)
    assert.deepEqual(made.names(PREFIX.generations), [generationName(0)])
    made.memory.objects.delete(generationName(0))
    const sessions = made.names(PREFIX.sessions)
    await assert.rejects(made.repository.startPoint(startRequest()), { code: 'repository-damaged' })
    assert.deepEqual(made.names(PREFIX.sessions), sessions)
  })

  it('does not reuse what is in tombstoned packs, neither by reference nor by content', async () => {
    const first = await backUp(made.repository, tree)
    const expected = readTree(tree)
    const tombstones = made.names(PREFIX.packs).map(lastComponent)
    putGeneration(1, tombstones)
    const session = await made.repository.startPoint(startRequest())
    for await (const entry of session.base!.entries())
      if (entry.size) assert.equal(await session.addUnchanged(entry, entry), false)
    await session.discard()
    const { point } = await backUp(made.repository, tree)
    assert.ok(point.bytes.new > 200_000 && point.bytes.new === first.point.bytes.new, `${point.bytes.new} new bytes`)
    // A collector may now remove the packs and what counts on them alone.
    for (const pack of tombstones) made.memory.objects.delete(`${PREFIX.packs}${pack.slice(0, 2)}/${pack}`)
    made.memory.objects.delete(sessionName(first.point.id))
    const reopened = await openTestRepository(made.memory, made.key, { workers: 1 })
    await assertRestores(reopened, point.id, expected)
    await reopened.close()
  })

  it('does not reuse what is not indexed, not listed, or not of the size that the index gives', async () => {
    const { point } = await backUp(made.repository, tree)
    const chunks = (await loadChunkIndex(made.state)).packCount()
    assert.ok(chunks > 0)
    for (const name of made.names(PREFIX.packs))
      made.memory.objects.set(name, Buffer.concat([made.memory.objects.get(name)!, Buffer.alloc(1)]))
    assert.equal((await loadChunkIndex(made.state)).packCount(), 0)
    const again = await backUp(made.repository, tree)
    assert.equal(again.point.bytes.new, point.bytes.new)
    await assertRestores(made.repository, again.point.id, readTree(tree))
  })

  it('sends every pack and every session once', async () => {
    const sent = new Map<string, number>()
    made.script = (call) => {
      if (call.operation !== 'put' && call.operation !== 'create') return null
      sent.set(call.name, (sent.get(call.name) ?? 0) + 1)
      return call.name.startsWith(PREFIX.packs) ? { kind: 'reject-after' } : null
    }
    const { point } = await backUp(made.repository, tree)
    for (const [name, times] of sent)
      if (name.startsWith(PREFIX.packs) || name.startsWith(PREFIX.sessions)) assert.equal(times, 1, name)
    made.script = () => null
    await assertRestores(made.repository, point.id, readTree(tree))
  })

  it('gives up cleanly a session that could not begin', async () => {
    await backUp(made.repository, tree)
    for (const [operation, prefix] of [
      ['list', PREFIX.index],
      ['list', PREFIX.packs],
      ['get', PREFIX.generations],
      ['get', PREFIX.index],
    ] as const) {
      made.script = (call) =>
        call.operation === operation && call.name.startsWith(prefix) ? { kind: 'reject-before' } : null
      await assert.rejects(made.repository.startPoint(startRequest()), { code: 'storage-unavailable' })
      made.script = () => null
      assert.equal(made.names(PREFIX.sessions).length, 1, `${operation} ${prefix}`)
      assert.deepEqual(made.names(PREFIX.pins), [], `${operation} ${prefix}`)
    }
  })

  it('lets two sessions of one repository go on beside each other, and one be discarded', async () => {
    const one = await made.repository.startPoint(startRequest({ source: 'one' }))
    const two = await made.repository.startPoint(startRequest({ source: 'two' }))
    const many = join(made.folder, 'many')
    writeTree(many, Object.fromEntries([1, 2, 3].map((i) => [`f${i}`, someBytes(`f${i}`, 8 << 20)])))
    await hand(two, tree)
    await hand(one, many)
    // One thread takes two jobs at a time, so one of `one` waits in the pool: giving `two` up must not touch it.
    await two.discard()
    const point = await one.commit({ ...SUMMARY, missed: [] })
    await assertRestores(made.repository, point.id, readTree(many))
    assert.deepEqual(await made.repository.points({ source: 'two' }), [])
  })

  it('is given up within its limit by a store that never answers again, and harms nothing', async () => {
    const { point } = await backUp(made.repository, tree)
    const session = await made.repository.startPoint(startRequest())
    // More than a pack, so that one is on its way when the backup is given up.
    writeTree(tree, { more: someBytes('more', 48 << 20) })
    let put: () => void = () => undefined
    const putting = new Promise<void>((resolve) => {
      put = resolve
    })
    made.script = ({ operation }) => {
      if (operation === 'put') put()
      return operation === 'put' || operation === 'create' ? { kind: 'hang' } : null
    }
    await hand(session, tree)
    await putting
    await assert.rejects(session.discard(), { code: 'storage-unavailable' })
    made.script = () => null
    assert.deepEqual(
      (await made.repository.points()).map(({ id }) => id),
      [point.id],
    )
    await assertSound(made.repository)
  })

  it('pins a point before it reads it, and refuses one that stopped counting', async () => {
    const { point } = await backUp(made.repository, tree)
    made.script = (call) =>
      call.operation === 'create' && call.name.startsWith(PREFIX.pins)
        ? { kind: 'call', when: 'after', run: () => void made.memory.objects.delete(sessionName(point.id)) }
        : null
    await assert.rejects(made.repository.openPoint(point.id, { signal: uninterrupted() }), { code: 'point-not-found' })
    assert.deepEqual(made.names(PREFIX.pins), [])
  })

  it('backs up without a base when the last point can not be read', async () => {
    const first = await backUp(made.repository, tree)
    for (const name of made.names(PREFIX.index)) made.memory.objects.delete(name)
    const { point } = await backUp(made.repository, tree)
    assert.equal(point.source, SOURCE)
    assert.equal(point.previous?.id, first.point.id)
    await assertRestores(made.repository, point.id, readTree(tree))
  })
})
