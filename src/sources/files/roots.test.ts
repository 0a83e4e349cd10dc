import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isRegainError } from '../../errors.ts'
import { isWithin, locateRoots, relativeTo, wantedPaths } from './roots.ts'

const base = realpathSync(mkdtempSync(join(tmpdir(), 'regain-roots-')))
after(() => rmSync(base, { recursive: true }))
for (const folder of ['a', 'a/b', 'a/b/c', 'a-b', 'd']) mkdirSync(join(base, folder))
for (const file of ['a/file', 'd/file']) writeFileSync(join(base, file), '')
symlinkSync('a', join(base, 'link'))
symlinkSync('nothing', join(base, 'dangling'))

const cases: { name: string; paths: string[]; root: string; wanted: string[]; absent?: string[] }[] = [
  { name: 'one folder', paths: ['a'], root: 'a', wanted: [''] },
  { name: 'one folder with slashes and dots', paths: ['a/./b/..//'], root: 'a', wanted: [''] },
  { name: 'one file', paths: ['a/file'], root: 'a', wanted: ['file'] },
  { name: 'two files of one folder', paths: ['a/file', 'a/b/c'], root: 'a', wanted: ['b/c', 'file'] },
  { name: 'siblings', paths: ['d', 'a'], root: '', wanted: ['a', 'd'] },
  { name: 'siblings of which one begins as the other', paths: ['a', 'a-b'], root: '', wanted: ['a', 'a-b'] },
  { name: 'different depths', paths: ['a/b/c', 'd'], root: '', wanted: ['a/b/c', 'd'] },
  { name: 'one within another', paths: ['a/b', 'a', 'a/file'], root: 'a', wanted: [''] },
  { name: 'the same twice', paths: ['a', 'a'], root: 'a', wanted: [''] },
  { name: 'a link', paths: ['link'], root: 'a', wanted: [''] },
  { name: 'a path through a link', paths: ['link/b', 'd'], root: '', wanted: ['a/b', 'd'] },
  { name: 'a link and what it points at', paths: ['a', 'link'], root: 'a', wanted: [''] },
  { name: 'one absent of two keeps the root', paths: ['a', 'gone'], root: '', wanted: ['a'], absent: ['gone'] },
  { name: 'an absent one deep down', paths: ['a', 'gone/x/y'], root: '', wanted: ['a'], absent: ['gone/x/y'] },
  { name: 'a dangling link', paths: ['a', 'dangling'], root: '', wanted: ['a'], absent: ['dangling'] },
  { name: 'nothing there', paths: ['gone'], root: 'gone', wanted: [], absent: [''] },
]

for (const { name, paths, root, wanted, absent } of cases) {
  test(`the root of ${name}`, () => {
    const roots = locateRoots(paths.map((path) => `${base}/${path}`))
    assert.equal(roots.root, root === '' ? base : `${base}/${root}`)
    assert.deepEqual(roots.wanted, wanted)
    assert.deepEqual(
      roots.absent.map((one) => one.relative),
      absent ?? [],
    )
  })
}

test('links are told', () => {
  assert.deepEqual(locateRoots([`${base}/link/b`]).links, [{ path: `${base}/link/b`, real: `${base}/a/b` }])
  assert.deepEqual(locateRoots([`${base}/a/b`]).links, [])
})

test('the whole machine', () => {
  assert.deepEqual(locateRoots(['/']), { root: '/', wanted: [''], links: [], absent: [] })
  assert.deepEqual(wantedPaths(locateRoots(['/'])), ['/'])
  assert.deepEqual(wantedPaths(locateRoots(['/dev', '/etc'])), ['/dev', '/etc'])
})

test('relative paths and no paths are refused', () => {
  assert.throws(
    () => locateRoots([]),
    (error) => isRegainError(error, 'config-invalid'),
  )
  assert.throws(
    () => locateRoots(['srv']),
    (error) => isRegainError(error, 'config-invalid'),
  )
})

test('a name that begins as a folder does is not within it', () => {
  assert.equal(isWithin('/srv/ab', '/srv/a'), false)
  assert.equal(isWithin('/srv/a', '/srv/a'), true)
  assert.equal(isWithin('/srv/a/b', '/srv/a'), true)
  assert.equal(isWithin('/srv', '/'), true)
  assert.equal(relativeTo('/', '/srv/a'), 'srv/a')
})
