import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  openSync,
  renameSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  entriesOf,
  hand,
  readTree,
  restore,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  writeTree,
} from '../../test/support/repository.ts'
import type { Entry, Missed, Progress } from '../model.ts'
import { type FaultScript, withFaults } from '../storage/fault.ts'
import { openMemoryStorage } from '../storage/memory.ts'

const MIB = 1024 * 1024
const RANGE = 64 * MIB
/** What may become of a file between the walk and the reading. */
const CHANGES: Record<string, (path: string, size: number) => void> = {
  grows: (path) => appendFileSync(path, 'more'),
  'becomes shorter': (path, size) => truncateSync(path, Math.floor(size / 3)),
  'becomes empty': (path) => truncateSync(path, 0),
  'is replaced by another of its size': (path, size) => {
    writeFileSync(`${path}.new`, someBytes('replaced', size))
    // Bytes, mode and time must be those of one file.
    chmodSync(`${path}.new`, 0o604)
    utimesSync(`${path}.new`, 1_000_000_000, 1_000_000_000.5)
    renameSync(`${path}.new`, path)
  },
  'is locked': (path) => chmodSync(path, 0o600),
  vanishes: (path) => renameSync(path, `${path}.gone`),
}
type Walked = ReturnType<typeof entriesOf> extends Generator<infer One> ? One : never
const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0 } as const

describe('large files', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let made: TestRepository

  before(async () => {
    folder = temporaryFolder()
    made = await createTestRepository(openMemoryStorage(), folder.path)
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  it('come back at the sizes where they are read in one range more', async () => {
    const tree = join(folder.path, 'ranges')
    const zeros = Buffer.alloc(RANGE + 1)
    zeros.write('begin')
    zeros.write('end of the first range', RANGE - 30)
    zeros[RANGE] = 7
    writeTree(tree, {
      below: zeros.subarray(0, RANGE - 1),
      exact: zeros.subarray(0, RANGE),
      above: zeros,
      twice: Buffer.concat([zeros.subarray(0, RANGE), zeros.subarray(0, RANGE)]),
    })
    const { point, missed } = await backUp(made.repository, tree, { source: 'ranges' })
    assert.deepEqual(missed, [])
    await assertRestores(made.repository, point.id, readTree(tree))
  })

  it('come back when sparse, with ranges of nothing and data across ranges', async () => {
    const tree = join(folder.path, 'sparse')
    const many = Array.from({ length: 300 }, (_, i) => [i * 65_536, someBytes(`m${i}`, 4096)] as [number, Buffer])
    writeTree(tree, {
      'many-chunks': { size: 20 * MIB, data: many },
      across: { size: RANGE + MIB, data: [[RANGE - 8192, someBytes('across', 16_384)]] },
      'data-then-hole': { size: RANGE + MIB, data: [[0, someBytes('begin', 4096)]] },
      'whole-range-of-data': { size: 2 * RANGE + 4096, data: [[RANGE, Buffer.alloc(RANGE, 1)]] },
    })
    const { point, missed } = await backUp(made.repository, tree, { source: 'sparse' })
    assert.deepEqual(missed, [])
    assert.ok(point.bytes.read < RANGE + 8 * MIB, `${point.bytes.read} bytes read`)
    const expected = readTree(tree)
    await assertRestores(made.repository, point.id, expected)
    const again = await backUp(made.repository, tree, { source: 'sparse' })
    assert.equal(again.point.bytes.read + again.point.bytes.new, 0)
    await assertRestores(made.repository, again.point.id, expected)
  })

  it('come back when they are longer than what a restore plans at once, also when nobody may write them', async () => {
    const tree = join(folder.path, 'long')
    // Two windows and a bit; the end of the first plan falls into the file.
    writeTree(tree, { 'a-before': someBytes('before', 5 * MIB), long: someBytes('long', 150 * MIB), z: 'after' })
    chmodSync(join(tree, 'long'), 0o444)
    const { point } = await backUp(made.repository, tree, { source: 'long' })
    await assertRestores(made.repository, point.id, readTree(tree))
  })

  it('that lost a part are told as lost once, and cost no other file', async () => {
    const tree = join(folder.path, 'hurt')
    writeTree(tree, { 'a-before': someBytes('hurt before', 5 * MIB), long: someBytes('hurt', 150 * MIB), z: 'after' })
    const memory = openMemoryStorage()
    const hurt = await createTestRepository(memory, folder.path)
    const { point } = await backUp(hurt.repository, tree)
    const expected = readTree(tree)
    expected.delete('long')
    const packs = [...memory.objects].filter(([name]) => name.startsWith('packs/'))
    const large = packs.filter(([, bytes]) => bytes.length > 12 * MIB)
    assert.ok(large.length >= 3)
    for (const [name, bytes] of large) {
      const damaged = Buffer.from(bytes)
      damaged[10 * MIB] = (damaged[10 * MIB] as number) ^ 1
      for (const change of [damaged, null]) {
        if (change) memory.objects.set(name, change)
        else memory.objects.delete(name)
        const { tree: restored, missed, files } = await restore(hurt.repository, point.id)
        // The small ones may be anywhere in a pack that is gone; only the first may be where a byte is wrong.
        const maybe = change ? ['a-before'] : ['a-before', 'z']
        const lost = missed.map(({ path }) => path)
        assert.deepEqual(
          lost.filter((path) => !maybe.includes(path)),
          ['long'],
        )
        assert.equal(files, 3 - missed.length)
        assert.equal(restored.has('long'), false)
        assert.equal(restored.get('z'), lost.includes('z') ? undefined : expected.get('z'))
      }
      memory.objects.set(name, bytes)
    }
    await hurt.repository.close()
  })

  it('are not finished while their last part waits to be planned, however slow the listing is', async () => {
    const tree = join(folder.path, 'slow')
    writeTree(tree, { long: someBytes('slow', 150 * MIB) })
    const memory = openMemoryStorage()
    let script: FaultScript = () => null
    const slow = await createTestRepository(
      withFaults(memory, (call) => script(call)),
      folder.path,
    )
    const session = await slow.repository.startPoint(startRequest())
    await hand(session, tree)
    // After the long file comes so much of a listing that it takes many reads.
    const other = { type: 'symlink', mode: 0o777, uid: 0, gid: 0, mtime: '1', target: 'x'.repeat(4000) } as const
    for (let i = 0; i < 4000; i++) await session.add({ ...other, path: `many-${String(i).padStart(5, '0')}` })
    const point = await session.commit({ ...SUMMARY, missed: [] })
    const reader = await slow.repository.openPoint(point.id, { signal: uninterrupted() })
    let listing = ''
    script = (call) => {
      if (call.operation === 'get') listing = call.name
      return null
    }
    await reader.entries().next()
    let started = 0
    let ended = 0
    let waiting: (() => void)[] = []
    const idle = async () => {
      while (ended < started)
        await new Promise<void>((resolve) => {
          waiting.push(resolve)
        })
    }
    script = (call) => {
      if (call.operation !== 'get') return null
      if (call.name === listing) return { kind: 'call', when: 'before', run: idle }
      // A job reads a pack's header and a range of it.
      if (call.name.startsWith('packs/')) started += 0.5
      return null
    }
    const warnings: string[] = []
    const progress = ({ phase }: Progress) => {
      if (phase === 'writing') ended++
      for (const resolve of waiting) resolve()
      waiting = []
    }
    const [name, bytes] = [...memory.objects].find(([one]) => one.startsWith('packs/') && one !== listing)!
    memory.objects.set(name, bytes.map((byte, i) => (i === 9 * MIB ? byte ^ 1 : byte)) as Buffer)
    const select = (entry: Entry) => !entry.path.startsWith('many')
    const to = join(folder.path, 'slow-restored')
    const summary = await reader.materialize(to, {
      signal: uninterrupted(),
      progress,
      warn: (w) => warnings.push(w),
      select,
    })
    assert.deepEqual(
      summary.missed.map(({ path }) => path),
      ['long'],
    )
    assert.equal(summary.files, 0)
    assert.deepEqual([...readTree(to).keys()], [''])
    await reader.close()
    await slow.repository.close()
  })

  for (const [what, change] of Object.entries(CHANGES))
    for (const size of [1000, 3 * MIB, RANGE + 5 * MIB])
      it(`of ${size} bytes are told as changed, or are of one later moment, when one ${what}`, async () => {
        const tree = join(folder.path, `changed-${what.replaceAll(' ', '-')}-${size}`)
        writeTree(tree, { f: someBytes('f', size), other: 'unchanged' })
        const missed: Missed[] = []
        const session = await made.repository.startPoint(startRequest({ source: `${what} ${size}` }))
        const walked = [...entriesOf(tree)]
        // After the walk, before any thread has read it: what the listing would say is no longer true.
        change(join(tree, 'f'), size)
        for (const { entry, path } of walked)
          if (entry.type === 'file') await session.addFile(entry, path, (one) => missed.push(one))
          else await session.add(entry)
        const point = await session.commit({ ...SUMMARY, missed: [] })
        const { tree: restored } = await restore(made.repository, point.id)
        const now = readTree(tree)
        assert.equal(restored.get('other'), now.get('other'))
        if (what === 'vanishes') {
          assert.deepEqual(missed, [{ path: missed[0]!.path, reason: 'vanished', detail: missed[0]!.detail }])
          assert.equal(restored.has('f'), false)
          assert.equal(point.complete, false)
          return
        }
        // Nothing changed while it was read, so its later state is as good as any.
        assert.deepEqual(missed, [])
        assert.equal(restored.get('f'), now.get('f'))
      })

  it('that are lost take their other names with them: all are damaged, none unsupported', async () => {
    const tree = join(folder.path, 'linked')
    writeTree(tree, { f: someBytes('linked', 2 * MIB), g: 'second' })
    const memory = openMemoryStorage()
    const linked = await createTestRepository(memory, folder.path)
    const session = await linked.repository.startPoint(startRequest())
    const [root, f, g] = [...entriesOf(tree)] as [Walked, Walked, Walked]
    await session.add(root.entry)
    await session.addFile(f.entry, f.path, (one) => assert.fail(one.detail))
    await session.add({ ...g.entry, hardLink: 'f' })
    const point = await session.commit({ ...SUMMARY, missed: [] })
    const packs = [...memory.objects].filter(([name]) => name.startsWith('packs/'))
    memory.objects.delete(packs.sort(([, a], [, b]) => b.length - a.length)[0]![0])
    const { missed } = await restore(linked.repository, point.id)
    assert.deepEqual(
      missed.map(({ path, reason }) => [path, reason]),
      [
        ['f', 'damaged'],
        ['g', 'damaged'],
      ],
    )
    await linked.repository.close()
  })

  it('take owner, names and extended attributes of the file that was read, and nothing of the one before', async () => {
    const tree = join(folder.path, 'taken')
    writeTree(tree, { f: 'first', g: 'second' })
    const [root, f] = [...entriesOf(tree)] as [Walked, Walked]
    const stale = {
      ...f.entry,
      inode: '1',
      owner: 'nobody-here',
      group: 'none',
      xattrs: { 'user.old': 'AA==' },
      uid: 12345,
    }
    const session = await made.repository.startPoint(startRequest({ source: 'taken' }))
    await session.add(root.entry)
    await session.addFile(stale, f.path, (one) => assert.fail(one.detail))
    await session.commit({ ...SUMMARY, missed: [] })
    const { uid, mode, inode, ctime } = f.entry
    assert.deepEqual([stale.uid, stale.mode, stale.inode, stale.ctime], [uid, mode, inode, ctime])
    assert.equal(stale.xattrs, undefined)
    assert.notEqual(stale.owner, 'nobody-here')
  })

  it('of several names are not read under one that another file has taken', async () => {
    const tree = join(folder.path, 'several')
    writeTree(tree, { f: 'first', g: 'second' })
    const [root, f, g] = [...entriesOf(tree)] as [Walked, Walked, Walked]
    const missed: Missed[] = []
    const session = await made.repository.startPoint(startRequest({ source: 'several' }))
    await session.add(root.entry)
    await session.addFile({ ...f.entry, inode: '1' }, f.path, (one) => missed.push(one), { sameInode: true })
    await session.addFile(g.entry, g.path, (one) => missed.push(one), { sameInode: true })
    const point = await session.commit({ ...SUMMARY, missed: [] })
    assert.deepEqual(
      missed.map(({ path, reason }) => [path, reason]),
      [['f', 'vanished']],
    )
    assert.deepEqual([...(await restore(made.repository, point.id)).tree.keys()], ['', 'g'])
  })

  it('that change all the time are kept and marked, whatever is kept', async () => {
    const tree = join(folder.path, 'restless')
    const size = RANGE + 5 * MIB
    writeTree(tree, { restless: someBytes('restless', size) })
    const missed: Missed[] = []
    const session = await made.repository.startPoint(startRequest({ source: 'restless' }))
    const walked = [...entriesOf(tree)]
    const fd = openSync(join(tree, 'restless'), 'r+')
    const timer = setInterval(() => writeSync(fd, Buffer.from([Number(process.hrtime.bigint() & 255n)]), 0, 1, 9), 0)
    try {
      for (const { entry, path } of walked)
        if (entry.type === 'file') await session.addFile(entry, path, (one) => missed.push(one))
        else await session.add(entry)
      const point = await session.commit({ ...SUMMARY, missed: [] })
      assert.equal(missed.length, 1)
      assert.equal(missed[0]!.reason, 'changed')
      assert.equal(point.complete, false)
      assert.equal(point.missedCount, 1)
      const entries: Entry[] = []
      const again = await made.repository.startPoint(startRequest({ source: 'restless' }))
      for await (const entry of again.base!.entries()) entries.push(entry)
      const kept = entries.find((entry) => entry.path === 'restless')!
      assert.ok(kept?.damaged)
      assert.equal(await again.addUnchanged(kept, kept), false, 'a damaged copy is not passed on')
      await again.discard()
      assert.deepEqual((await restore(made.repository, point.id)).missed, [])
    } finally {
      clearInterval(timer)
      closeSync(fd)
    }
  })

  it('leave a sound repository', () => assertSound(made.repository))
})
