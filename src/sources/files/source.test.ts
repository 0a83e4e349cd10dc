import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { everything, listen } from '../../../test/contract/source.ts'
import { removeTree } from '../../../test/support/describe-tree.ts'
import { hasCode as code, FilesFixture } from '../../../test/support/files-source.ts'
import { isRegainError } from '../../errors.ts'
import type { FilesConfig, FilesOptions } from './source.ts'

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

test('a failing after is trouble of a whole point; the commands themselves are never shown', async () => {
  write('f')
  const run = await backup(source({ before: 'true pass-word', after: 'false pass-word' }))
  assert.ok(run.point.point.complete)
  assert.equal(run.summary.trouble?.code, 'source-not-resumed')
  assert.match(run.summary.trouble?.message ?? '', /AFTER COMMAND ended with status 1/)
  assert.match(fixture.logged.join('\n'), /^error THE AFTER COMMAND/m)
  assert.doesNotMatch([run.summary.trouble?.message, ...fixture.logged].join('\n'), /pass-word/)
  assert.equal((await backup(source({ after: 'true' }))).summary.trouble, undefined)
})

test('a failing after is logged also when there is no point to tell it with', async () => {
  const failing = { paths: [join(root, 'gone')], before: 'true', after: 'false' }
  await assert.rejects(backup(source(failing)), code('source-unavailable'))
  assert.match(fixture.logged.join('\n'), /^error THE AFTER COMMAND/m)
})

test('a command that hangs is given up', async () => {
  write('f')
  await assert.rejects(backup(source({ before: 'sleep 1000' }, { commandLimitMs: 200 })), (error) => {
    return isRegainError(error, 'source-unavailable') && /did not end within 0.2 s/.test(error.message)
  })
})

test('restores what a glob names, with the folders above it', async () => {
  for (const name of ['a/b/one.jpg', 'a/b/two.txt', 'a/three.jpg', 'd/e/f', 'd/g', 'd-h', '[x]/y']) write(name)
  fs.linkSync(join(root, 'a/three.jpg'), join(root, 'z-link'))
  fs.linkSync(join(root, 'd/g'), join(root, 'y-link'))
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
  assert.deepEqual(await restored('d'), ['d', 'd/e', 'd/e/f', 'd/g'])
  assert.deepEqual(await restored('d/e/*'), ['d', 'd/e', 'd/e/f'])
  assert.deepEqual(await restored('y-link'), ['d', 'd/g', 'y-link'])
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
  fs.mkdirSync(join(root, 'empty'))
  assert.deepEqual(await codes({ paths: [join(root, 'd'), join(root, 'empty')] }), ['ok paths', 'warning path-empty'])
  assert.deepEqual(await codes({ exclude: ['*'] }), ['ok paths', 'warning path-empty'])
  assert.deepEqual(await codes({ exclude: ['link'] }), ['ok paths'])
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
