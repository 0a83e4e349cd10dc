import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import { choosePoint, formatMoment, parseMoment, refineMoment } from './moments.ts'

const READ: [string, RestoreMoment][] = [
  ['latest', { kind: 'latest' }],
  ['2026-11-20T14:59:59Z', { kind: 'time', time: '2026-11-20T14:59:59Z' }],
  ['2026-11-20 14:59:59Z', { kind: 'time', time: '2026-11-20T14:59:59Z' }],
  ['2026-11-20t14:59:59z', { kind: 'time', time: '2026-11-20T14:59:59Z' }],
  ['2026-11-20T15:59:59+01:00', { kind: 'time', time: '2026-11-20T14:59:59Z' }],
  ['2026-11-20T00:30:00+05:30', { kind: 'time', time: '2026-11-19T19:00:00Z' }],
  ['2026-11-20T14:59:59.123456Z', { kind: 'time', time: '2026-11-20T14:59:59.123456Z' }],
  ['2026-11-20T15:59:59.123456789+01:00', { kind: 'time', time: '2026-11-20T14:59:59.123456789Z' }],
  ['1f3a', { kind: 'point', id: '1f3a' }],
  ['1F3A9C2E', { kind: 'point', id: '1f3a9c2e' }],
  ['2026', { kind: 'point', id: '2026' }],
  ['lsn:16/B374D848', { kind: 'lsn', lsn: '16/B374D848' }],
  ['lsn:0/3000028', { kind: 'lsn', lsn: '0/3000028' }],
  ['xid:7341', { kind: 'xid', xid: '7341' }],
  ['name:before upgrade', { kind: 'name', name: 'before upgrade' }],
]

for (const [text, moment] of READ) test(`WHEN: ${text}`, () => assert.deepEqual(parseMoment(text), moment))

const REFUSED: [string, RegExp][] = [
  ['', /is not a moment/],
  ['yesterday', /is not a moment/],
  ['abc', /is not a moment/],
  ['2026-11-20', /does not say its zone/],
  ['2026-11-20T14:59', /does not say its zone/],
  ['2026-11-20 14:59:59', /does not say its zone/],
  ['2026-02-30T00:00:00Z', /is not a time that exists/],
  ['2026-13-01T00:00:00Z', /is not a time that exists/],
  ['2026-11-20T25:00:00Z', /is not a time that exists/],
  ['lsn:16', /is not a moment/],
  ['lsn:123456789/0', /is not a moment/],
  ['xid:0', /is not a moment/],
  ['xid:x', /is not a moment/],
  ['name:', /is not a moment/],
  [`name:${'x'.repeat(64)}`, /is not a moment/],
  ['0123456789abcdef0123456789abcdef0', /is not a moment/],
]

for (const [text, message] of REFUSED) {
  test(`not a WHEN: ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseMoment(text), { code: 'usage', message })
  })
}

test('what is formatted is read back as the same moment', () => {
  const times = fc.date({ min: new Date('1970-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  fc.assert(
    fc.property(times, (date) => {
      const moment = parseMoment(date.toISOString())
      assert.deepEqual(parseMoment(formatMoment(moment)), moment)
      assert.equal(moment.kind === 'time' && Date.parse(moment.time), date.getTime())
    }),
  )
})

function point(id: string, committedAt: string): Point {
  return { id, committedAt } as Point
}

const POINTS = [
  point('aaaa1111', '2026-11-20T10:00:00.500Z'),
  point('aaaa2222', '2026-11-20T11:00:00.000Z'),
  point('bbbb3333', '2026-11-20T12:00:00.000Z'),
]

function chosen(moment: RestoreMoment): string | undefined {
  return choosePoint(POINTS, moment)?.id
}

test('latest, and moments only the log knows, begin with the newest point', () => {
  assert.equal(chosen({ kind: 'latest' }), 'bbbb3333')
  assert.equal(chosen({ kind: 'lsn', lsn: '0/1' }), 'bbbb3333')
  assert.equal(choosePoint([], { kind: 'latest' }), null)
})

test('a time begins with the newest point committed by then, to the last digit', () => {
  assert.equal(chosen({ kind: 'time', time: '2026-11-20T11:59:59.999999999Z' }), 'aaaa2222')
  assert.equal(chosen({ kind: 'time', time: '2026-11-20T12:00:00Z' }), 'bbbb3333')
  assert.equal(chosen({ kind: 'time', time: '2026-11-20T10:00:00.500Z' }), 'aaaa1111')
  assert.equal(chosen({ kind: 'time', time: '2026-11-20T10:00:00.499999Z' }), undefined)
  assert.equal(chosen({ kind: 'time', time: '2026-11-20T10:00:00Z' }), undefined)
})

test('a point is found by a unique prefix', () => {
  assert.equal(chosen({ kind: 'point', id: 'bbbb' }), 'bbbb3333')
  assert.equal(chosen({ kind: 'point', id: 'cccc' }), undefined)
  assert.throws(() => chosen({ kind: 'point', id: 'aaaa' }), { code: 'usage' })
})

test('--timeline and --exclusive go with what they mean something for', () => {
  const time = parseMoment('2026-11-20T14:59:59Z')
  assert.deepEqual(refineMoment(time, { timeline: '3', exclusive: true }), { ...time, timeline: 3, exclusive: true })
  assert.deepEqual(refineMoment(time, { timeline: 'latest' }), time)
  assert.equal(
    formatMoment(refineMoment(parseMoment('xid:7'), { timeline: 'current', exclusive: true })),
    "right before xid:7, on the point's timeline",
  )
  for (const [at, options] of [
    ['latest', { exclusive: true }],
    ['name:x', { exclusive: true }],
    ['1f3a', { exclusive: true }],
    ['1f3a', { timeline: '1' }],
    ['latest', { timeline: '0' }],
    ['latest', { timeline: 'newest' }],
  ] as const)
    assert.throws(() => refineMoment(parseMoment(at), options), { code: 'usage' })
})
