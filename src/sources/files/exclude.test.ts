import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../../errors.ts'
import { Excludes } from './exclude.ts'

/** A trailing slash marks a folder. */
function excluded(patterns: string[], path: string, root = '/srv/app'): boolean {
  const isDirectory = path.endsWith('/')
  const bare = isDirectory ? path.slice(0, -1) : path
  return new Excludes(patterns, root).excludes(bare, bare.slice(bare.lastIndexOf('/') + 1), isDirectory)
}

const cases: { patterns: string[]; out: string[]; kept: string[] }[] = [
  { patterns: [], out: [], kept: ['a', 'a/'] },
  { patterns: ['*.tmp'], out: ['x.tmp', 'a/b/x.tmp', 'dir.tmp/'], kept: ['x.tmp2', 'tmp'] },
  { patterns: ['cache'], out: ['cache', 'cache/', 'a/cache'], kept: ['cached', 'a/cached/'] },
  { patterns: ['cache/'], out: ['cache/', 'a/cache/'], kept: ['cache', 'a/cache'] },
  { patterns: ['/cache'], out: ['cache', 'cache/'], kept: ['a/cache'] },
  { patterns: ['a/cache'], out: ['a/cache'], kept: ['cache', 'b/a/cache'] },
  { patterns: ['a/cache/'], out: ['a/cache/'], kept: ['a/cache'] },
  { patterns: ['a/*.log'], out: ['a/x.log'], kept: ['a/b/x.log', 'x.log'] },
  { patterns: ['a/**/x.log'], out: ['a/x.log', 'a/b/c/x.log'], kept: ['x.log'] },
  { patterns: ['**/node_modules/'], out: ['node_modules/', 'a/node_modules/'], kept: ['node_modules'] },
  { patterns: ['keep/**'], out: ['keep/a', 'keep/b/'], kept: ['keep/'] },
  { patterns: ['*.log', '!important.log'], out: ['a.log'], kept: ['important.log', 'd/important.log'] },
  { patterns: ['!a.log', '*.log'], out: ['a.log'], kept: [] },
  { patterns: ['*', '!*/', '!*.jpg'], out: ['a.txt'], kept: ['d/', 'd/a.jpg'] },
  { patterns: ['/srv/app/cache'], out: ['cache'], kept: ['a/cache'] },
  { patterns: ['/srv/app/a/*.tmp'], out: ['a/x.tmp'], kept: ['x.tmp', 'b/x.tmp'] },
  { patterns: ['\\!bang'], out: ['!bang'], kept: ['bang'] },
]

for (const { patterns, out, kept } of cases) {
  test(`exclude ${JSON.stringify(patterns)}`, () => {
    for (const path of out) assert.equal(excluded(patterns, path), true, `${path} should be left out`)
    for (const path of kept) assert.equal(excluded(patterns, path), false, `${path} should be kept`)
  })
}

test('with the whole machine as root, an absolute pattern is one from the root', () => {
  assert.equal(excluded(['/var/cache'], 'var/cache', '/'), true)
  assert.equal(excluded(['/var/cache'], 'srv/var/cache', '/'), false)
})

test('a pattern that names nothing is refused', () => {
  for (const pattern of ['', '!', '/', '!/', '//']) {
    assert.throws(
      () => new Excludes([pattern], '/srv'),
      (error) => isRegainError(error, 'config-invalid'),
      pattern,
    )
  }
})
