import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { count, formatBytes, formatTime, printable, table } from './format.ts'

test('bytes with three digits', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [1234, '1.23 kB'],
    [12_345, '12.3 kB'],
    [123_456, '123 kB'],
    [999_499, '999 kB'],
    [999_500, '1.00 MB'],
    [4.6e9, '4.60 GB'],
    [2 ** 60, '1153 PB'],
  ]
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text)
})

test('times and counts', () => {
  assert.equal(formatTime('2026-11-20T19:01:18.123456Z'), '2026-11-20 19:01:18Z')
  assert.equal(formatTime('2026-11-20T19:01:18Z'), '2026-11-20 19:01:18Z')
  assert.equal(count(1, 'file'), '1 file')
  assert.equal(count(12_345, 'file'), '12,345 files')
})

test('a table lines its columns up and leaves no trailing blanks', () => {
  const lines = table(
    [{ title: 'NAME' }, { title: 'SIZE', align: 'right' }, { title: 'X' }],
    [
      ['a', '1', ''],
      ['übung', '1000', 'y'],
    ],
  )
  assert.deepEqual(lines, ['NAME   SIZE  X', 'a         1', 'übung  1000  y'])
})

test('what a name holds cannot move the cursor or forge a line', () => {
  assert.equal(printable('a\u001b[2Jb'), 'a\\x1b[2Jb')
  assert.equal(printable('a\nError: b\t\r'), 'a\\nError: b\\t\\x0d')
  assert.equal(printable('caf\udcc3\udca9'), 'caf\\xc3\\xa9')
  assert.equal(printable('txt.\u202eexe'), 'txt.\\u202eexe')
  assert.equal(printable('日本 🎉'), '日本 🎉')
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.doesNotMatch(printable(text), /\p{Cc}|\p{Cs}/u)
    }),
  )
})
