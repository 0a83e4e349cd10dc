import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../errors.ts'
import { validateEntryPath } from './entry-path.ts'
import { bytesToPath } from './names.ts'

const hostile = [
  ['absolute', '/etc/passwd'],
  ['only a slash', '/'],
  ['parent', '..'],
  ['parent first', '../x'],
  ['parent inside', 'a/../b'],
  ['parent last', 'a/..'],
  ['itself', '.'],
  ['itself inside', 'a/./b'],
  ['itself last', 'a/.'],
  ['empty component', 'a//b'],
  ['trailing slash', 'a/'],
  ['NUL', 'a\0b'],
  ['a name of 256 bytes', 'x'.repeat(256)],
  ['a name of 258 bytes in 86 characters', '€'.repeat(86)],
  ['a lone surrogate', 'a\ud800'],
  ['valid UTF-8 in escapes', '\udcc3\udca9'],
  ['dots in escapes', '\udc2e\udc2e/x'],
  ['longer than any walk', 'a/'.repeat(600_000)],
] as const

for (const [name, path] of hostile) {
  test(`refuses ${name}`, () => {
    assert.throws(
      () => validateEntryPath(path),
      (error) => isRegainError(error, 'repository-damaged'),
    )
  })
}

test('takes what a walk gives', () => {
  const fine = ['', 'a', 'a/b', '...', '..a', 'a..', '.hidden/x', '-rf', ' ', 'a\nb', 'x'.repeat(255), '€'.repeat(85)]
  for (const path of [...fine, bytesToPath(Buffer.from('ff2f80', 'hex')), `${'d/'.repeat(5000)}f`])
    validateEntryPath(path)
})
