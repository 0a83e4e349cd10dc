import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  readTree,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  writeTree,
} from '../../test/support/repository.ts'
import type { Repository } from '../repository/api.ts'
import type { Storage } from '../storage/contract.ts'
import { withFaults } from '../storage/fault.ts'
import { createLocalStorage } from '../storage/local.ts'
import { openMemoryStorage } from '../storage/memory.ts'
import { copyLog } from './copy-log.ts'
import { copyPoint } from './copy-point.ts'

const KIB = 1024
const MIB = 1024 * KIB
const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }
const copy = (from: Repository, to: Repository, id: string, signal = reporting.signal) =>
  copyPoint(testAmbient(), from, to, id, { ...reporting, signal })

describe('a copy of a point', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let stores: Storage[]
  let local: TestRepository
  let remote: TestRepository
  /** The decorator hides the directory from the threads, as every remote store does. */
  let remoteStore: Storage

  before(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    remoteStore = withFaults(await createLocalStorage(join(folder.path, 'remote')), () => null)
    stores = [await createLocalStorage(join(folder.path, 'local')), remoteStore]
    local = await createTestRepository(stores[0] as Storage, folder.path)
    remote = await createTestRepository(remoteStore, folder.path)
    const repeated = someBytes('repeated', 100)
    writeTree(tree, {
      'empty/': '',
      nothing: '',
      'one small': 'content',
      large: someBytes('large', 30 * MIB),
      sparse: { size: 9 * MIB, data: [[3 * MIB, someBytes('in a hole', 70_000)]] },
      hole: { size: MIB, data: [] },
      link: { link: 'large' },
      ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`many/${i}`, i % 3 ? `file ${i}` : repeated])),
    })
  })
  after(async () => {
    await local.repository.close()
    await remote.repository.close()
    for (const store of stores) await store.close()
    folder.remove()
  })

  it('restores to the same, in a repository with other keys, and again back in a third', async () => {
    const { point } = await backUp(local.repository, tree, { label: 'before 2.0' })
    const copied = await copy(local.repository, remote.repository, point.id)
    await assertRestores(remote.repository, copied.id, readTree(tree))
    await assertSound(remote.repository)
    assert.deepEqual(copied.origin, { repository: local.repository.id, point: point.id })
    const { id: _, listing: __, bytes: ___, origin: ____, ...rest } = copied
    const { id: _____, listing: ______, bytes: _______, ...expected } = point
    assert.deepEqual(rest, expected)
    assert.notEqual(copied.listing, point.listing)

    const third = await createTestRepository(openMemoryStorage(), folder.path)
    const again = await copy(remote.repository, third.repository, copied.id)
    assert.deepEqual(again.origin, copied.origin)
    await assertRestores(third.repository, again.id, readTree(tree))
    await third.repository.close()
  })

  it('reads and stores only what the last one does not hold', async () => {
    writeFileSync(join(tree, 'one small'), 'other content')
    writeFileSync(join(tree, 'many/5'), 'changed')
    rmSync(join(tree, 'many/6'))
    writeFileSync(join(tree, 'a new one'), someBytes('new', 50_000))
    const { point } = await backUp(local.repository, tree)
    const copied = await copy(local.repository, remote.repository, point.id)
    await assertRestores(remote.repository, copied.id, readTree(tree))
    assert.equal(copied.bytes.read, 'other content'.length + 'changed'.length + 50_000)
    assert.ok(copied.bytes.new < 200 * KIB, `${copied.bytes.new} bytes are new`)
    assert.equal(copied.previous?.id, (await remote.repository.points()).at(-2)?.id)
    await assertSound(remote.repository)
  })

  it('of a database keeps its long lists of pages', async () => {
    const pages = someBytes('pages', 40 * MIB)
    const session = await local.repository.startPoint(startRequest({ source: 'db', sourceType: 'postgres' }))
    const about = { mode: 0o600, uid: 0, gid: 0, mtime: '0' }
    await session.add({ path: '', type: 'directory', ...about })
    const stream = await session.addStream({ path: 'base', type: 'file', size: pages.length, ...about }, 'pages')
    await stream.write(pages)
    await stream.end()
    const summary = { kind: 'full', root: '/', positions: { startLsn: '0/1' }, sourceBytes: 1, missed: [] } as const
    const { id } = await session.commit({ ...summary, missed: [] })
    const copied = await copy(local.repository, remote.repository, id)
    assert.deepEqual(copied.positions, { startLsn: '0/1' })
    const opened = await remote.repository.openPoint(copied.id, { signal: uninterrupted() })
    const entry = await opened.entry('base')
    assert.ok(entry?.chunkLists)
    const pieces: Buffer[] = []
    for await (const piece of opened.stream(entry)) pieces.push(piece)
    await opened.close()
    assert.ok(Buffer.concat(pieces).equals(pages))
  })

  it('that is interrupted is not visible, and the next one succeeds', async () => {
    writeFileSync(join(tree, 'large'), someBytes('another', 30 * MIB))
    const { point } = await backUp(local.repository, tree)
    const before = (await remote.repository.points()).length
    const stop = new AbortController()
    const progress = () => stop.abort()
    await assert.rejects(
      copyPoint(testAmbient(), local.repository, remote.repository, point.id, {
        ...reporting,
        signal: stop.signal,
        progress,
      }),
      { code: 'interrupted' },
    )
    assert.equal((await remote.repository.points()).length, before)
    const copied = await copy(local.repository, remote.repository, point.id)
    await assertRestores(remote.repository, copied.id, readTree(tree))
  })

  it('of what is damaged is refused by the name of the file, and nothing of it is visible', async () => {
    writeFileSync(join(tree, 'large'), someBytes('to be hurt', 30 * MIB))
    const before = new Set<string>()
    const store = stores[0] as Storage
    for await (const { name } of store.list('packs/')) before.add(name)
    const { point } = await backUp(local.repository, tree)
    const points = (await remote.repository.points()).length
    let hurt = ''
    for await (const { name, size } of store.list('packs/')) if (!before.has(name) && size > MIB) hurt = name
    const sound = await store.get(hurt)
    const bytes = Buffer.from(sound)
    bytes[500_000]! ^= 1
    await store.put(hurt, bytes)
    await assert.rejects(copy(local.repository, remote.repository, point.id), {
      code: 'repository-damaged',
      message: /^large is lost in part/,
    })
    assert.equal((await remote.repository.points()).length, points)
    await assertSound(remote.repository)
    await store.put(hurt, sound)
    await copy(local.repository, remote.repository, point.id)
  })

  it('of a log brings what is missing, in order, and the tail', async () => {
    const from = local.repository.log('db')
    const to = remote.repository.log('db')
    await from.putHistory('system', Buffer.from('7\n'))
    const meta = { until: '2026-01-01T00:00:00Z' }
    await from.putSegment('1', 'a', Buffer.from('aaa'), meta)
    await from.putSegment('1', 'b', Buffer.from('bbb'), { ...meta, follows: 'a' })
    await from.putTail('1', 'c', 0, Buffer.from('cc'), meta)
    assert.equal(await copyLog(from, to, false, reporting), 2)
    assert.deepEqual(await to.list(), await from.list())
    assert.equal((await to.read('1', 'b'))?.meta.follows, 'a')
    await from.putSegment('1', 'c', Buffer.from('ccc'), { ...meta, follows: 'b' })
    await from.dropTails('1', 'c')
    assert.equal(await copyLog(from, to, false, reporting), 1)
    assert.equal((await to.read('1', 'c'))?.whole, true)
    assert.equal(await copyLog(from, to, false, reporting), 0)
    // What was removed there on purpose stays away, but where all is asked for.
    const how = { signal: uninterrupted(), progress: () => undefined }
    const trimLog = [{ source: 'db', branch: '1', from: 'a', to: 'c' }]
    const weighed = (await remote.repository.points()).map(({ id }) => id)
    await remote.repository.prune(await remote.repository.planPrune({ expire: [], trimLog, weighed, ...how }), how)
    assert.deepEqual(
      (await to.list()).segments.map(({ name }) => name),
      ['c'],
    )
    assert.equal(await copyLog(from, to, false, reporting), 0)
    assert.equal(await copyLog(from, to, true, reporting), 2)
    await assertSound(remote.repository)
  })

  it('of a log names no segment as stored before that was removed while it was copied', async () => {
    const from = local.repository.log('other')
    const to = remote.repository.log('other')
    const meta = { until: '2026-01-01T00:00:00Z' }
    await from.putSegment('1', 'a', Buffer.from('aaa'), meta)
    await from.putSegment('1', 'b', Buffer.from('bbb'), { ...meta, follows: 'a' })
    const trimmed: typeof from = Object.create(from)
    trimmed.read = async (branch, name) => (name === 'a' ? null : from.read(branch, name))
    assert.equal(await copyLog(trimmed, to, false, reporting), 1)
    await assertSound(remote.repository)
  })
})
