import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Acknowledged, formatAcknowledged, isoMicroseconds, judgeEnd, judgeMoment } from './acknowledged.ts'

/** Commits number 1 to `count`, one every 100 ms from the epoch on, acknowledged 2 ms after their commit record. */
function commits(count: number): Acknowledged[] {
  return Array.from({ length: count }, (_, i) => ({
    seq: i + 1,
    kind: 'order',
    acknowledgedAt: (i + 1) * 100 + 2,
    committedAtUs: BigInt((i + 1) * 100) * 1000n,
  }))
}

function upTo(count: number): Set<number> {
  return new Set(Array.from({ length: count }, (_, i) => i + 1))
}

test('a moment: exactly what was committed up to it, the microsecond itself included', () => {
  assert.deepEqual(judgeMoment(commits(10), upTo(5), 500_000n), { expected: 5, missing: [], surplus: [] })
  assert.deepEqual(judgeMoment(commits(10), upTo(5), 499_999n), { expected: 4, missing: [], surplus: [5] })
  assert.deepEqual(judgeMoment(commits(10), upTo(4), 500_000n), { expected: 5, missing: [5], surplus: [] })
  assert.deepEqual(judgeMoment(commits(3), new Set([1, 3]), 300_000n), { expected: 3, missing: [2], surplus: [] })
})

test('a commit whose time was never learned is not expected at any moment', () => {
  const [first, second] = commits(2)
  assert.ok(first && second)
  const verdict = judgeMoment([first, { ...second, committedAtUs: null }], new Set([1]), 10_000_000n)
  assert.deepEqual(verdict, { expected: 1, missing: [], surplus: [] })
})

test('the end: the loss is counted from the oldest commit that is gone', () => {
  const verdict = judgeEnd(commits(10), upTo(7), 1100, 702)
  assert.deepEqual(verdict, {
    acknowledged: 10,
    recovered: 7,
    lost: 3,
    lossMs: 1100 - 802,
    brokenPromises: [],
    holes: [],
    unacknowledged: [],
  })
})

test('the end: nothing lost is no loss, and one commit without its word may be there', () => {
  const verdict = judgeEnd(commits(10), upTo(11), 1100, 1000)
  assert.deepEqual([verdict.lost, verdict.lossMs, verdict.unacknowledged], [0, 0, [11]])
})

test('the end: what was called durable must be there', () => {
  assert.deepEqual(judgeEnd(commits(10), upTo(7), 1100, 802).brokenPromises, [8])
  assert.deepEqual(judgeEnd(commits(10), upTo(7), 1100, 801).brokenPromises, [])
})

test('the end: a hole is told from a lost end', () => {
  assert.deepEqual(judgeEnd(commits(5), new Set([1, 2, 4]), 1000, 0).holes, [3])
})

test('the kept file names each commit with both clocks', () => {
  const [first] = commits(1)
  assert.ok(first)
  assert.equal(
    formatAcknowledged([first, { ...first, seq: 2, kind: 'payment', committedAtUs: null }]),
    '1\torder\t1970-01-01T00:00:00.102Z\t1970-01-01T00:00:00.100000Z\n2\tpayment\t1970-01-01T00:00:00.102Z\t\n',
  )
  assert.equal(isoMicroseconds(1_767_225_600_000_001n), '2026-01-01T00:00:00.000001Z')
})
