import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { everything, type Heard, listen, record } from '../../../test/contract/source.ts'
import { describeTree, diffTrees, makeOddities, removeTree } from '../../../test/support/oddities.ts'
import { type RecordedPoint, RecordingWriter, type WriterOptions } from '../../../test/support/recording-point.ts'
import { type ErrorCode, isRegainError, RegainError } from '../../errors.ts'
import { setXattr } from '../../filesystem/libc.ts'
import type { Ambient } from '../../model.ts'
import type { SourceSummary } from '../contract.ts'
import { createFilesSource, type FilesConfig, type FilesOptions } from './source.ts'

const isRoot = process.geteuid?.() === 0
const logged: string[] = []
const ambient: Ambient = {
  now: () => 0,
  randomBytes: (size) => Buffer.alloc(size),
  log: (level, message) => logged.push(`${level} ${message}`),
}
/** After everything that a test makes: no change time is too young to be trusted. */
const LATER = '2100-01-01T00:00:00.000Z'

let parent = ''
let root = ''
let target = ''
beforeEach(() => {
  parent = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'regain-files-')))
  root = join(parent, 'root')
  target = join(parent, 'target')
  fs.mkdirSync(root)
  fs.mkdirSync(target)
  logged.length = 0
})
afterEach(() => removeTree(parent))

function write(path: string, content = path): string {
  const full = join(root, path)
  fs.mkdirSync(join(full, '..'), { recursive: true })
  fs.writeFileSync(full, content)
  return full
}

function source(config: Partial<FilesConfig> = {}, options: FilesOptions = {}) {
  return createFilesSource({ paths: [root], exclude: [], ...config }, ambient, options)
}

interface Run {
  writer: RecordingWriter
  summary: SourceSummary
  point: RecordedPoint
  heard: Heard
}

async function backup(from = source(), options: WriterOptions = {}, heard = listen()): Promise<Run> {
  const writer = new RecordingWriter({ startedAt: LATER, ...options })
  const summary = await from.backup(writer, heard.options)
  return { writer, summary, heard, point: await writer.finish(summary, 'files') }
}

const paths = (run: Run): string[] => run.point.entries.map((entry) => entry.path)
const code = (wanted: ErrorCode) => (error: unknown) => isRegainError(error, wanted)

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
  point.asBase = () => ({
    point: point.point,
    async *entries() {
      yield* entries.slice(0, 2)
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
    createFilesSource({ paths: ['/dev'], exclude: [] }, ambient, { crossFileSystems: false }),
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

test('the commands surround the reading of every file', async () => {
  write('f')
  const log = join(parent, 'log')
  const config = { before: `echo before >> ${log}`, after: `echo after >> ${log}` }
  const read = () => fs.appendFileSync(log, 'read\n')
  await backup(source(config), { onRead: read })
  assert.equal(fs.readFileSync(log, 'utf8'), 'before\nread\nafter\n')
})

test('after runs when reading fails, when before fails, and when the person interrupts', {
  timeout: 60_000,
}, async () => {
  write('f')
  const log = join(parent, 'log')
  const after = `echo after >> ${log}`
  const count = () => (fs.existsSync(log) ? fs.readFileSync(log, 'utf8').split('\n').length - 1 : 0)
  const failing = { paths: [join(root, 'gone')], before: 'true', after }
  await assert.rejects(backup(source(failing)), code('source-unavailable'))
  assert.equal(count(), 1)
  await assert.rejects(backup(source({ before: 'echo why >&2; exit 4', after })), (error) => {
    assert.ok(isRegainError(error, 'source-unavailable'))
    assert.match(error.message, /status 4, saying: why/)
    return true
  })
  assert.equal(count(), 2)
  const controller = new AbortController()
  const marker = join(parent, 'started')
  const stopped = backup(
    source({ before: `touch ${marker}; sleep 1000`, after }),
    {},
    listen('full', controller.signal),
  )
  while (!fs.existsSync(marker)) await new Promise((resolve) => setImmediate(resolve))
  controller.abort()
  await assert.rejects(stopped, code('interrupted'))
  assert.equal(count(), 3)
  await assert.rejects(
    backup(source({ before: 'true', after }), {}, listen('full', AbortSignal.abort())),
    code('interrupted'),
  )
  assert.equal(count(), 3, 'nothing was started, so nothing is to be undone')
})

test('a failing after is a loud warning and no failure; the commands themselves are never shown', async () => {
  write('f')
  const run = await backup(source({ before: 'true pass-word', after: 'false pass-word' }))
  assert.match(run.heard.warnings.join('\n'), /AFTER COMMAND ended with status 1/)
  assert.match(logged.join('\n'), /^error THE AFTER COMMAND/m)
  assert.doesNotMatch([...run.heard.warnings, ...logged].join('\n'), /pass-word/)
})

test('a command that hangs is given up', async () => {
  write('f')
  await assert.rejects(backup(source({ before: 'sleep 1000' }, { commandLimitMs: 200 })), (error) => {
    return isRegainError(error, 'source-unavailable') && /did not end within 0.2 s/.test(error.message)
  })
})

test('restores what a glob names, with the folders above it', async () => {
  for (const name of ['a/b/one.jpg', 'a/b/two.txt', 'a/three.jpg', 'd/e/f', 'd/g', '[x]/y']) write(name)
  fs.linkSync(join(root, 'a/three.jpg'), join(root, 'z-link'))
  const { point } = await backup()
  const restored = async (path: string): Promise<string[]> => {
    removeTree(target)
    fs.mkdirSync(target)
    await source().restore(point.reader(), { ...everything(target), path }, listen().options)
    return fs.readdirSync(target, { recursive: true, encoding: 'utf8' }).sort()
  }
  assert.deepEqual(await restored('a/b'), ['a', 'a/b', 'a/b/one.jpg', 'a/b/two.txt'])
  assert.deepEqual(await restored('d/'), ['d', 'd/e', 'd/e/f', 'd/g'])
  assert.deepEqual(await restored('**/*.jpg'), ['a', 'a/b', 'a/b/one.jpg', 'a/three.jpg'])
  assert.deepEqual(await restored('*/g'), ['d', 'd/g'])
  assert.deepEqual(await restored(`${root}/d/g`), ['d', 'd/g'])
  assert.deepEqual(await restored('./d/g'), ['d', 'd/g'])
  assert.deepEqual(await restored('[x]'), ['[x]', '[x]/y'])
  assert.deepEqual(await restored('z*'), ['a', 'a/three.jpg', 'z-link'])
  assert.equal((await restored('/')).length, point.entries.length - 1)
  const reader = point.reader()
  for (const path of ['nothing', '*.jpg', 'b', '../x']) {
    await assert.rejects(
      source().restore(reader, { ...everything(target), path }, listen().options),
      code('precondition-failed'),
    )
  }
})

test('says what has no meaning for files, and what an ordinary user cannot have', async () => {
  write('f')
  const { point } = await backup()
  const heard = listen()
  await source().restore(point.reader(), { ...everything(target), start: true }, heard.options)
  assert.match(heard.warnings[0] ?? '', /nothing to start/)
  assert.equal(heard.warnings.length, isRoot ? 1 : 2)
  if (!isRoot) assert.match(heard.warnings[1] ?? '', /belong to the user who runs this/)
})

test('check names what is wrong, each with a fix', async () => {
  write('d/f')
  fs.symlinkSync('d', join(root, 'link'))
  const codes = async (config: Partial<FilesConfig>, options: FilesOptions = {}): Promise<string[]> => {
    const findings = await source(config, options).check(listen().options)
    for (const finding of findings) assert.ok(finding.severity === 'ok' || finding.fix, finding.code)
    return findings.map(({ severity, code: word }) => `${severity} ${word}`)
  }
  assert.deepEqual(await codes({}), ['ok paths'])
  assert.deepEqual(await codes({ paths: [join(root, 'd'), join(root, 'gone')] }), ['error path-absent'])
  assert.deepEqual(await codes({ paths: [join(root, 'link')] }), ['ok paths', 'warning path-is-link'])
  assert.deepEqual(await codes({ paths: ['relative'] }), ['error paths'])
  assert.deepEqual(await codes({ paths: ['/proc'] }).then((all) => all.filter((one) => !one.endsWith('not-root'))), [
    'error path-kernel',
  ])
  assert.deepEqual(await codes({}, { skip: [root] }), ['error path-in-repository'])
  assert.deepEqual(await codes({}, { skip: [join(root, 'd')] }), ['ok paths', 'warning repository-in-path'])
  assert.deepEqual(await codes({ exclude: ['/'] }), ['error exclude'])
  assert.deepEqual(await codes({ before: 'true', after: 'true' }), ['ok paths'])
  assert.deepEqual(await codes({ before: 'no-such-thing x', after: 'exit 1' }), ['error command-absent'])
  assert.deepEqual(await codes({ before: 'true' }), ['ok paths', 'warning command-after'])
  assert.deepEqual(await codes({ after: 'true' }), ['ok paths'])
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

test('the recorder is held to the same contract by a source without a base', async () => {
  write('f')
  const point = await record(source(), null)
  assert.equal(point.point.kind, 'full')
})
