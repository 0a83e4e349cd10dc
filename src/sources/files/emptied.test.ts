import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { listen } from '../../../test/contract/source.ts'
import { FilesFixture, type Run } from '../../../test/support/files-source.ts'

let fixture: FilesFixture
beforeEach(() => {
  fixture = new FilesFixture()
})
afterEach(() => fixture.remove())

function missedOf(run: Run): string[] {
  return run.point.point.missed.map(({ path, reason }) => `${path} ${reason}`)
}

test('a folder that never held files makes a point, and a remark', async () => {
  fs.mkdirSync(join(fixture.root, 'only/folders'), { recursive: true })
  const heard = listen('full')
  const run = await fixture.backup(fixture.source(), {}, heard)
  assert.deepEqual(missedOf(run), [])
  assert.match(heard.warnings.join('\n'), /holds no files that are to be backed up/)
  const again = await fixture.backup(fixture.source(), { base: run.point })
  assert.deepEqual(missedOf(again), [])
})

test('of a folder that held files each point without is incomplete, until there are files again', async () => {
  fixture.write('sub/f')
  const first = await fixture.backup()
  assert.deepEqual([missedOf(first), first.heard.warnings.filter((line) => /no files/.test(line))], [[], []])
  fs.rmSync(join(fixture.root, 'sub/f'))
  const second = await fixture.backup(fixture.source(), { base: first.point })
  assert.deepEqual(missedOf(second), [' vanished'])
  const third = await fixture.backup(fixture.source(), { base: second.point }, listen('full'))
  assert.deepEqual(missedOf(third), [' vanished'])
  fixture.write('.keep')
  const fourth = await fixture.backup(fixture.source(), { base: third.point })
  assert.deepEqual([missedOf(fourth), fourth.summary.positions], [[], { paths: [fixture.root] }])
})

test('a pattern that takes everything is such a case', async () => {
  fixture.write('f')
  const first = await fixture.backup()
  const second = await fixture.backup(fixture.source({ exclude: ['*'] }), { base: first.point })
  assert.deepEqual(missedOf(second), [' vanished'])
})

test('each configured path is judged by itself, also when the root of all has moved', async () => {
  for (const name of ['a/f', 'b/f', 'b+/f', 'c/f']) fixture.write(name)
  const paths = (...names: string[]) => names.map((name) => join(fixture.root, name))
  const config = { paths: paths('a', 'b', 'c') }
  const first = await fixture.backup(fixture.source(config))
  for (const name of ['b', 'c']) fs.rmSync(join(fixture.root, name, 'f'))
  const second = await fixture.backup(fixture.source(config), { base: first.point })
  assert.deepEqual(missedOf(second), ['b vanished', 'c vanished'])
  const alone = await fixture.backup(fixture.source({ paths: paths('c') }), { base: first.point })
  assert.deepEqual([alone.summary.root, missedOf(alone)], [join(fixture.root, 'c'), [' vanished']])
  const without = await fixture.backup(fixture.source({ paths: paths('a') }), { base: second.point })
  assert.deepEqual(missedOf(without), [])
})
