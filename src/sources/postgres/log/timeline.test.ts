import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leftAt, parseHistory, passesThrough, rootHistory, timelineAt } from './timeline.ts'

const TEXT = `1\t0/3000000\tno recovery target specified

# a comment
2\t0/5000100\tbefore 2026-11-20 19:01:06.123456+00
`

test('a history file tells which timeline served which position', () => {
  const history = parseHistory(4, TEXT)
  assert.deepEqual(history.ancestors, [
    { timeline: 1, end: 0x3000000n },
    { timeline: 2, end: 0x5000100n },
  ])
  assert.deepEqual(
    [0n, 0x2ffffffn, 0x3000000n, 0x50000ffn, 0x5000100n].map((lsn) => timelineAt(history, lsn)),
    [1, 1, 2, 2, 4],
  )
  assert.deepEqual([leftAt(history, 1), leftAt(history, 4), leftAt(history, 3)], [0x3000000n, null, undefined])
  assert.ok(passesThrough(history, 1, 0x3000000n))
  assert.ok(!passesThrough(history, 1, 0x3000001n))
  assert.ok(!passesThrough(history, 3, 1n))
  assert.ok(passesThrough(rootHistory(7), 7, 1n))
})

test('a history that PostgreSQL would refuse is refused', () => {
  for (const text of ['x\t0/1\tr\n', '1\t0/x\tr\n', '2\t0/1\tr\n1\t0/2\tr\n', '4\t0/1\tr\n', '1 0/1 r\n1 0/2 r\n']) {
    assert.throws(() => parseHistory(4, text), { code: 'repository-damaged' }, text)
  }
})
