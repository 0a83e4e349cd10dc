import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../errors.ts'
import { bytesToPath, displayPath, isPathText, latin1ToPath, pathToBytes } from './names.ts'

// Random bytes rarely make interesting sequences, so they are mixed from pieces at the edges of UTF-8.
const piece = fc.constantFrom(
  ...[
    '41',
    'c3a9',
    'e282ac',
    'f09f9880',
    'c0af',
    'c1bf',
    'e08080',
    'e09fbf',
    'eda080',
    'edbfbf',
    'f08fbfbf',
    'f4908080',
  ],
  ...[
    '80',
    'bf',
    'c3',
    'e2',
    'e282',
    'f0',
    'f09f',
    'f09f98',
    'f5',
    'fe',
    'ff',
    'efbbbf',
    'ed9fbf',
    'ee8080',
    'f48fbfbf',
    '0a',
  ],
)
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)),
  fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.from(pieces.join(''), 'hex')),
)

test('every byte string has one path, and comes back from it', () => {
  fc.assert(
    fc.property(bytes, (name) => {
      const path = bytesToPath(name)
      assert.deepEqual(pathToBytes(path), name)
      assert.equal(latin1ToPath(name.toString('latin1')), path)
      assert.equal(isPathText(path), true)
    }),
    { numRuns: 5000 },
  )
})

test('different bytes never share a path', () => {
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      assert.equal(bytesToPath(a) === bytesToPath(b), a.equals(b))
    }),
    { numRuns: 2000 },
  )
})

test('strings that no bytes decode to are told apart', () => {
  assert.equal(isPathText('\ud800'), false)
  assert.equal(isPathText('\udc7f'), false)
  assert.equal(isPathText('\udd00'), false)
  // Escapes that together are valid UTF-8 would be a second path for the same bytes.
  assert.equal(isPathText('\udcc3\udca9'), false)
  assert.equal(isPathText('\udcc3x\udca9'), true)
  assert.throws(
    () => pathToBytes('a\ud800'),
    (error) => isRegainError(error, 'repository-damaged'),
  )
})

test('agrees with os.fsdecode and os.fsencode of Python', (t) => {
  const samples = fc.sample(bytes, { numRuns: 2000, seed: 20 })
  const program = [
    'import sys, os, json',
    'names = [bytes.fromhex(h) for h in json.load(sys.stdin)]',
    'assert all(os.fsencode(os.fsdecode(n)) == n for n in names)',
    'print(json.dumps([os.fsdecode(n) for n in names]))',
  ].join('\n')
  const python = spawnSync('python3', ['-X', 'utf8', '-c', program], {
    input: JSON.stringify(samples.map((sample) => sample.toString('hex'))),
    encoding: 'utf8',
  })
  if (python.error !== undefined && 'code' in python.error && python.error.code === 'ENOENT') {
    t.diagnostic('python3 is not installed: the comparison with os.fsdecode was left out')
    return
  }
  assert.equal(python.status, 0, python.stderr)
  assert.deepEqual(
    samples.map((sample) => bytesToPath(sample)),
    JSON.parse(python.stdout),
  )
})

test('a path is shown on one line, with nothing a terminal would obey', () => {
  assert.equal(displayPath('a\nb\tc\x1b[31m\\ é 😀'), 'a\\nb\\tc\\x1b[31m\\\\ é 😀')
  assert.equal(displayPath(bytesToPath(Buffer.of(0x61, 0xff, 0x7f, 0xc2, 0x85))), 'a\\xff\\x7f\\x85')
  assert.equal(displayPath('\u202efdp.exe'), '\\u202efdp.exe')
})
