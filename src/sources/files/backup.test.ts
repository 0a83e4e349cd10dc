import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { everything, listen } from '../../../test/contract/source.ts'
import { describeTree, diffTrees } from '../../../test/support/describe-tree.ts'
import { hasCode as code, FilesFixture, LATER, pathsOf as paths } from '../../../test/support/files-source.ts'
import { makeOddities } from '../../../test/support/oddities.ts'
import { RecordingWriter } from '../../../test/support/recording-point.ts'
import { RegainError } from '../../errors.ts'
import { setXattr } from '../../filesystem/libc.ts'
import { createFilesSource } from './source.ts'

const isRoot = process.geteuid?.() === 0

let fixture: FilesFixture
let parent = ''
let root = ''
let target = ''
beforeEach(() => {
  fixture = new FilesFixture()
  ;({ parent, root, target } = fixture)
})
afterEach(() => fixture.remove())

const write: FilesFixture['write'] = (...given) => fixture.write(...given)
const source: FilesFixture['source'] = (...given) => fixture.source(...given)
const backup: FilesFixture['backup'] = (...given) => fixture.backup(...given)

test('a folder of every oddity, thousands of names included, comes back the same', async () => {
  fs.rmdirSync(root)
  await makeOddities(root, { deep: true })
  const { point, summary } = await backup()
  const restored = await source().restore(point.reader(), everything(target), listen().options)
  const unreadable = isRoot ? [] : ['modes/unreadable']
  assert.deepEqual(
    point.point.missed.map((missed) => missed.path),
    unreadable,
  )
  assert.deepEqual(restored.missed, [])
  assert.equal(restored.reached, LATER)
  assert.deepEqual([summary.root, summary.positions], [root, { paths: [root] }])
  const diff = diffTrees(await describeTree(root), await describeTree(target))
  // Its absence is what `missed` has said; nothing else may differ.
  const others = diff.filter((line) => !line.startsWith('- ./modes/unreadable '))
  assert.deepEqual(others, [])
  assert.equal(diff.length, unreadable.length)
})

test('unchanged files are not read again; changed, new, replaced and touched ones are', async () => {
  for (const name of ['same', 'grown', 'touched', 'replaced', 'gone', 'd/same', 'rewritten']) write(name)
  const first = await backup()
  assert.deepEqual(first.writer.unchanged, [])
  fs.appendFileSync(join(root, 'grown'), 'x')
  fs.utimesSync(join(root, 'touched'), 1, 1)
  const { atime, mtime } = fs.statSync(join(root, 'rewritten'))
  fs.writeFileSync(join(root, 'rewritten'), 'REWRITTEN')
  fs.utimesSync(join(root, 'rewritten'), atime, mtime)
  fs.writeFileSync(join(root, 'other'), 'replaced')
  fs.utimesSync(join(root, 'other'), atime, mtime)
  fs.renameSync(join(root, 'other'), join(root, 'replaced'))
  fs.rmSync(join(root, 'gone'))
  write('a-new')
  const second = await backup(source(), { base: first.point })
  assert.deepEqual(second.writer.unchanged, ['d/same', 'same'])
  assert.deepEqual(second.writer.read.sort(), ['a-new', 'grown', 'replaced', 'rewritten', 'touched'])
  assert.equal(second.summary.kind, 'incremental')
})

test('a file that changed while or just before the last point was taken is read again', async () => {
  const { ctimeNs } = fs.statSync(write('young'), { bigint: true })
  const startedAt = new Date(Number(ctimeNs / 1_000_000n) + 5).toISOString()
  const first = await backup(source(), { startedAt })
  const second = await backup(source(), { base: first.point })
  assert.deepEqual(second.writer.read, ['young'])
})

test('what was damaged, or can no longer be used, is read again', async () => {
  for (const name of ['damaged', 'fine']) write(name)
  const first = await backup()
  for (const entry of first.point.entries) if (entry.path === 'damaged') entry.damaged = 'changed while it was read'
  assert.deepEqual((await backup(source(), { base: first.point })).writer.read, ['damaged'])
  assert.deepEqual((await backup(source(), { base: first.point, reusable: false })).writer.read, ['damaged', 'fine'])
})

test('attributes are fresh even where content is not read', async () => {
  const path = write('file')
  const first = await backup()
  // The owner's name is no attribute of the inode: it changes without a new change time.
  for (const entry of first.point.entries) entry.owner = 'was-called-otherwise'
  const second = await backup(source(), { base: first.point })
  assert.deepEqual(second.writer.unchanged, ['file'])
  assert.notEqual(second.point.entries.at(-1)?.owner, 'was-called-otherwise')
  fs.chmodSync(path, 0o600)
  assert.equal((await backup(source(), { base: second.point })).point.entries.at(-1)?.mode, 0o600)
})

test('a full backup reads everything; so does one of another root, and says so', async () => {
  write('d/file')
  const first = await backup()
  const full = await backup(source(), { base: first.point }, listen('full'))
  assert.deepEqual([full.writer.read, full.summary.kind], [['d/file'], 'full'])
  const other = await backup(source({ paths: [join(root, 'd')] }), { base: first.point })
  assert.deepEqual([other.writer.read, other.summary.kind], [['file'], 'full'])
  assert.match(other.heard.warnings.join(), /previous point is of/)
})

test('a damaged listing of the last point does not keep a new one from being taken', async () => {
  for (const name of ['a', 'b', 'c']) write(name)
  const { point } = await backup()
  const { entries } = point
  const asBase = point.asBase.bind(point)
  point.asBase = () => ({
    ...asBase(),
    async *leaves() {
      yield entries.slice(0, 2)
      throw new RegainError('repository-damaged', 'a page is gone')
    },
  })
  const run = await backup(source(), { base: point })
  assert.deepEqual([run.writer.unchanged, run.writer.read], [['a'], ['b', 'c']])
  assert.match(run.heard.warnings.join(), /cannot be read \(a page is gone\)/)
})

test('hard links: one content, whatever the order and wherever their names are', async () => {
  const first = write('b/first')
  fs.mkdirSync(join(root, 'a'))
  for (const name of ['a/earlier', 'c', 'b/second']) fs.linkSync(first, join(root, name))
  // A name outside the source does not count.
  fs.linkSync(first, join(parent, 'outside'))
  const { point, writer, summary } = await backup()
  assert.deepEqual(
    point.entries.filter((entry) => entry.type === 'file').map((entry) => [entry.path, entry.hardLink]),
    [
      ['a/earlier', undefined],
      ['b/first', 'a/earlier'],
      ['b/second', 'a/earlier'],
      ['c', 'a/earlier'],
    ],
  )
  assert.deepEqual(writer.read, ['a/earlier'])
  assert.equal(summary.sourceBytes, 'b/first'.length)
})

test('names that hang on content which was lost are named as missed', async () => {
  const first = write('a')
  fs.linkSync(first, join(root, 'b'))
  const vanish = (entry: { path: string }) => {
    if (entry.path === 'a') fs.rmSync(join(root, 'a'))
  }
  const { point } = await backup(source(), { onRead: vanish })
  assert.deepEqual(
    point.point.missed.map(({ path, reason }) => [path, reason]),
    [
      ['b', 'unreadable'],
      ['a', 'vanished'],
    ],
  )
})

test('several paths share a root; folders on the way are entries, their other content is not', async () => {
  for (const name of ['x/one/f', 'x/two/f', 'x/other/f', 'y/f', 'y/g', 'z']) write(name)
  const run = await backup(source({ paths: [join(root, 'x/two'), join(root, 'x/one'), join(root, 'y/g')] }))
  assert.deepEqual(paths(run), ['', 'x', 'x/one', 'x/one/f', 'x/two', 'x/two/f', 'y', 'y/g'])
  await source().restore(run.point.reader(), everything(target), listen().options)
  assert.equal(fs.readFileSync(join(target, 'x/two/f'), 'utf8'), 'x/two/f')
})

test('a path that is a file', async () => {
  write('d/wanted')
  write('d/not')
  const run = await backup(source({ paths: [join(root, 'd/wanted')] }))
  assert.deepEqual([paths(run), run.summary.root], [['', 'wanted'], join(root, 'd')])
})

test('a path that is absent is missed where others are there, and fails the backup where none is', async () => {
  write('d/f')
  const run = await backup(source({ paths: [join(root, 'd'), join(root, 'gone')] }))
  assert.deepEqual(paths(run), ['', 'd', 'd/f'])
  assert.deepEqual(
    run.point.point.missed.map(({ path }) => path),
    ['gone'],
  )
  await assert.rejects(backup(source({ paths: [join(root, 'gone')] })), code('source-unavailable'))
})

test('a configured link is resolved once, with a warning; links below are kept as links', async () => {
  write('d/f')
  fs.symlinkSync('d', join(root, 'link'))
  fs.symlinkSync('..', join(root, 'd/up'))
  const run = await backup(source({ paths: [join(root, 'link')] }))
  assert.deepEqual([paths(run), run.summary.root], [['', 'f', 'up'], join(root, 'd')])
  assert.match(run.heard.warnings.join('\n'), /symbolic link/)
})

test('excluded and skipped things are left out with all below them', async () => {
  for (const name of ['a.tmp', 'a.txt', 'cache/x', 'd/cache/y', 'd/b.tmp', 'd/keep.tmp', 'repo/pack', 'repo-2/x'])
    write(name)
  const config = { exclude: ['*.tmp', '!keep.tmp', 'cache/'] }
  const run = await backup(source(config, { skip: [join(root, 'repo'), join(parent, 'elsewhere')] }))
  assert.deepEqual(paths(run), ['', 'a.txt', 'd', 'd/keep.tmp', 'repo-2', 'repo-2/x'])
})

test('a path that was named is backed up whatever the patterns say', async () => {
  write('x.tmp/f')
  const run = await backup(source({ paths: [join(root, 'x.tmp')], exclude: ['*.tmp'] }))
  assert.deepEqual(paths(run), ['', 'f'])
})

test('a source inside the repository is refused', async () => {
  write('repo/d/f')
  const config = { paths: [join(root, 'repo/d')] }
  await assert.rejects(backup(source(config, { skip: [join(root, 'repo')] })), code('source-unsuitable'))
  await assert.rejects(backup(source({ paths: ['/proc/self'] })), code('source-unsuitable'))
})

test('a mounted file system that shows the kernel is an empty folder, with a warning', async (t) => {
  if (!fs.existsSync('/dev/pts/ptmx')) {
    t.diagnostic('no pseudo-terminals are mounted here: there is no such mount to meet')
    return
  }
  const run = await backup(source({ paths: ['/dev'], exclude: ['/shm/**'] }))
  assert.deepEqual(
    paths(run).filter((path) => path.startsWith('pts')),
    ['pts'],
  )
  assert.match(run.heard.warnings.join('\n'), /\/dev\/pts shows the kernel/)
  const without = await backup(
    createFilesSource({ paths: ['/dev'], exclude: [] }, fixture.ambient, { crossFileSystems: false }),
  )
  assert.deepEqual(
    paths(without).filter((path) => path.startsWith('shm/')),
    [],
  )
})

test('what cannot be read is missed by name, and the rest is there', async (t) => {
  if (isRoot) {
    t.diagnostic('root reads everything: run as an ordinary user to test it')
    return
  }
  for (const name of ['fine', 'locked/inside', 'secret', 'searchless/f']) write(name)
  fs.chmodSync(join(root, 'locked'), 0)
  fs.chmodSync(join(root, 'secret'), 0)
  fs.chmodSync(join(root, 'searchless'), 0o400)
  const run = await backup()
  assert.deepEqual(paths(run), ['', 'fine', 'locked', 'searchless'])
  assert.deepEqual(run.point.point.missed.map(({ path, reason }) => `${path} ${reason}`).sort(), [
    'locked unreadable',
    'searchless/f unreadable',
    'secret unreadable',
  ])
  fs.chmodSync(root, 0o300)
  await assert.rejects(backup(), code('source-unavailable'))
  fs.chmodSync(root, 0o700)
})

test('things that vanish while the tree is walked: silently before they were looked at, missed after', async () => {
  for (const name of ['a', 'b', 'c/d/e', 'f']) write(name)
  const writer = new RecordingWriter({ startedAt: LATER })
  const add = writer.addFile.bind(writer)
  // All names of the root are listed by now; `a` waits to be read, `b` and `c` were not looked at yet.
  writer.addFile = async (entry, path, missed) => {
    if (entry.path === 'a') for (const name of ['a', 'b', 'c']) fs.rmSync(join(root, name), { recursive: true })
    return add(entry, path, missed)
  }
  const summary = await source().backup(writer, listen().options)
  const point = await writer.finish(summary, 'files')
  assert.deepEqual(
    point.entries.map((entry) => entry.path),
    ['', 'f'],
  )
  assert.deepEqual(
    point.point.missed.map(({ path, reason }) => [path, reason]),
    [['a', 'vanished']],
  )
})

test('a folder swapped for a link while its siblings are read is not followed', async () => {
  write('a')
  write('b/inside')
  fs.mkdirSync(join(parent, 'outside'))
  fs.writeFileSync(join(parent, 'outside/secret'), '')
  const writer = new RecordingWriter({ startedAt: LATER })
  const add = writer.addFile.bind(writer)
  writer.addFile = async (entry, path, missed) => {
    if (entry.path === 'a') {
      fs.renameSync(join(root, 'b'), join(parent, 'b'))
      fs.symlinkSync('../outside', join(root, 'b'))
    }
    return add(entry, path, missed)
  }
  const point = await writer.finish(await source().backup(writer, listen().options), 'files')
  assert.deepEqual(
    point.entries.map(({ path, type }) => [path, type]),
    [
      ['', 'directory'],
      ['a', 'file'],
      ['b', 'symlink'],
    ],
  )
})

test('a file of several names is asked for as that very inode, others as what lies there', async () => {
  write('alone')
  fs.linkSync(write('first'), join(root, 'second'))
  const writer = new RecordingWriter({ startedAt: LATER })
  const add = writer.addFile.bind(writer)
  const asked: Record<string, boolean | undefined> = {}
  writer.addFile = async (entry, path, missed, options) => {
    asked[entry.path] = options?.sameInode
    return add(entry, path, missed)
  }
  await writer.finish(await source().backup(writer, listen().options), 'files')
  assert.deepEqual(asked, { alone: false, first: true })
})

test('an extended attribute alone is a change', async () => {
  const path = write('f')
  const first = await backup()
  try {
    setXattr(path, 'user.x', Buffer.from('1'))
  } catch (error) {
    assert.equal(error instanceof Error && 'code' in error && error.code, 'ENOTSUP')
    return
  }
  const second = await backup(source(), { base: first.point })
  assert.equal(second.point.entries.at(-1)?.xattrs?.['user.x'], Buffer.from('1').toString('base64'))
})
