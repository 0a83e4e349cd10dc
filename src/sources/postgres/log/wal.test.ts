import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatLsn, parseLsn } from '../protocol/lsn.ts'
import {
  branchName,
  checkSegmentBytes,
  conflictName,
  historyName,
  isSegmentName,
  parseConflictName,
  parseHistoryName,
  parseSegmentName,
  segmentName,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from './wal.ts'

const MIB = 1024 * 1024
const lsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const segmentBytes = fc.integer({ min: 0, max: 10 }).map((power) => MIB * 2 ** power)
const timeline = fc.integer({ min: 1, max: 0xffffffff })

test('positions are written as PostgreSQL writes them, and read back', () => {
  assert.equal(formatLsn(0x16_b374_d848n), '16/B374D848')
  assert.equal(formatLsn(0n), '0/0')
  assert.equal(parseLsn('0/3000060'), 0x3000060n)
  fc.assert(fc.property(lsn, (value) => parseLsn(formatLsn(value)) === value))
  for (const text of ['', '1', '0/', '/0', '0/123456789', 'x/1', '0/1/2', '-1/0'])
    assert.throws(() => parseLsn(text), { code: 'usage' })
})

test('segments of every size have PostgreSQL’s names', () => {
  // From pg_walfile_name of servers with these segment sizes.
  assert.equal(segmentName(1, segmentNumber(parseLsn('0/3000060'), 16 * MIB), 16 * MIB), '000000010000000000000003')
  assert.equal(segmentName(1, segmentNumber(parseLsn('16/B374D848'), 16 * MIB), 16 * MIB), '0000000100000016000000B3')
  assert.equal(segmentName(10, segmentNumber(parseLsn('1/0'), MIB), MIB), '0000000A0000000100000000')
  assert.equal(
    segmentName(1, segmentNumber(parseLsn('2/C0000000'), 1024 * MIB), 1024 * MIB),
    '000000010000000200000003',
  )
  fc.assert(
    fc.property(lsn, segmentBytes, timeline, (position, size, line) => {
      const number = segmentNumber(position, size)
      const name = segmentName(line, number, size)
      assert.ok(isSegmentName(name))
      assert.deepEqual(parseSegmentName(name, size), { timeline: line, number })
      assert.ok(name.startsWith(branchName(line)))
      assert.equal(segmentStart(position, size) + BigInt(segmentOffset(position, size)), position)
    }),
  )
})

test('names in order are segments in order, within a timeline', () => {
  fc.assert(
    fc.property(lsn, lsn, segmentBytes, (a, b, size) => {
      const [x, y] = [segmentNumber(a, size), segmentNumber(b, size)]
      assert.equal(segmentName(1, x, size) < segmentName(1, y, size), x < y)
    }),
  )
})

test('what is no segment of this size is none', () => {
  for (const name of [
    '',
    '00000001000000000000000g',
    '000000000000000000000001',
    '000000010000000000000100',
    '00000001000000000000000a',
    '00000002.history',
  ]) {
    assert.equal(parseSegmentName(name, 16 * MIB), null, name)
  }
  for (const size of [0, 1, 3 * MIB, 512 * 1024, 2048 * MIB, Number.NaN, 1.5])
    assert.throws(() => checkSegmentBytes(size), { code: 'source-unsuitable' })
  assert.equal(parseHistoryName(historyName(18)), 18)
  assert.equal(parseHistoryName('system'), null)
  assert.equal(parseConflictName(conflictName('000000010000000000000003')), '000000010000000000000003')
})
