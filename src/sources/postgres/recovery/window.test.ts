import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LogListing } from '../../contract.ts'
import { parseHistory, type TimelineHistory } from '../log/timeline.ts'
import { branchName, conflictName, segmentName } from '../log/wal.ts'
import type { Lsn } from '../protocol/lsn.ts'
import { findWindows, historiesIn, type PointSpan } from './window.ts'

const MIB = 1024 * 1024
const SIZE = BigInt(MIB)

function listing(
  segments: [number, number][],
  tails: [number, number, number][] = [],
  histories: string[] = [],
): LogListing {
  return {
    segments: segments.map(([timeline, number]) => ({
      branch: branchName(timeline),
      name: segmentName(timeline, BigInt(number), MIB),
    })),
    tails: tails.map(([timeline, number, available]) => ({
      branch: branchName(timeline),
      name: segmentName(timeline, BigInt(number), MIB),
      available,
    })),
    histories,
  }
}

function point(id: string, timeline: number, start: number, stop: number): PointSpan {
  const at = (megabytes: number): Lsn => BigInt(Math.round(megabytes * MIB))
  return { id, timeline, startLsn: at(start), stopLsn: at(stop), stopTime: '2026-01-01T00:00:00Z', segmentBytes: MIB }
}

const megabytes = (lsn: Lsn): number => Number(lsn) / MIB

test('points along one unbroken log share a window; a gap ends it and says where the log goes on', () => {
  const { windows, unusable } = findWindows(
    [point('a', 1, 1.5, 1.75), point('b', 1, 3, 3.1), point('c', 1, 7, 7.5), point('d', 1, 5.5, 6.5)],
    listing(
      [
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 4],
        [1, 6],
        [1, 7],
      ],
      [[1, 8, MIB / 2]],
    ),
    new Map(),
  )
  assert.deepEqual(
    windows.map((window) => [
      window.points.map(({ id }) => id),
      megabytes(window.from),
      megabytes(window.to),
      window.last.name.slice(-1),
    ]),
    [
      [['a', 'b'], 1.75, 5, '4'],
      [['c'], 7.5, 8.5, '8'],
    ],
  )
  assert.deepEqual(windows[0]?.break, { from: 5n * SIZE, to: 6n * SIZE, reason: 'missing' })
  assert.equal(windows[1]?.break, null)
  assert.deepEqual(
    unusable.map(({ point: { id }, missing }) => [id, megabytes(missing)]),
    [['d', 5.5]],
  )
})

test('a refused segment is a break of its own kind, and a tail alone can carry a point', () => {
  const conflict = conflictName(segmentName(1, 3n, MIB))
  const { windows } = findWindows(
    [point('a', 1, 1.5, 1.75), point('b', 1, 9.1, 9.2)],
    listing(
      [
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 4],
      ],
      [[1, 9, MIB / 2]],
      [conflict, 'system'],
    ),
    new Map(),
  )
  assert.deepEqual(
    windows.map(({ to }) => megabytes(to)),
    [3, 9.5],
  )
  assert.deepEqual(windows[0]?.break, { from: 3n * SIZE, to: 4n * SIZE, reason: 'conflict' })
})

test('across a fork: the child’s segment counts where both have one, and the old way stays if it goes further', () => {
  const two = parseHistory(2, '1\t0/380000\tpromoted\n')
  const segments: [number, number][] = [
    [1, 1],
    [1, 2],
    [2, 3],
    [2, 4],
  ]
  const histories = new Map([[2, two]])
  const ended = findWindows(
    [point('a', 1, 1.5, 1.75)],
    listing(segments, [[1, 3, MIB / 2]], ['00000002.history']),
    histories,
  )
  // Timeline 1 ends at the fork: its way is part of the other.
  assert.deepEqual(
    ended.windows.map(({ timeline, to }) => [timeline, megabytes(to)]),
    [[2, 5]],
  )
  const wentOn = findWindows([point('a', 1, 1.5, 1.75)], listing([...segments, [1, 3], [1, 4], [1, 5]]), histories)
  assert.deepEqual(
    wentOn.windows.map(({ timeline, to }) => [timeline, megabytes(to)]),
    [
      [1, 6],
      [2, 5],
    ],
  )
  // A point behind the fork on the old timeline is not on the new one's way.
  const behind = findWindows([point('late', 1, 4, 4.5)], listing([...segments, [1, 3], [1, 4]]), histories)
  assert.deepEqual(
    behind.windows.map(({ timeline }) => timeline),
    [1],
  )
  assert.deepEqual(historiesIn(listing([], [], ['00000002.history', 'system'])), [2])
})

/** Walks a quarter of a segment at a time and asks for each where recovery would find it. */
function naiveEnd(span: PointSpan, timeline: number, history: TimelineHistory | null, log: LogListing): number | null {
  const has = (name: string): boolean =>
    log.segments.some((segment) => segment.name === name) && !log.histories.includes(conflictName(name))
  const tail = (name: string): number =>
    log.histories.includes(conflictName(name)) ? 0 : (log.tails.find((one) => one.name === name)?.available ?? 0)
  const quarter = MIB / 4
  let reached: number | null = null
  for (let at = Math.floor(Number(span.startLsn) / MIB) * MIB; ; at += quarter) {
    const number = Math.floor(at / MIB)
    const fork = history?.ancestors[0]
    const isOld = fork !== undefined && (number + 1) * MIB - 1 < Number(fork.end)
    const name = segmentName(isOld ? fork.timeline : timeline, BigInt(number), MIB)
    if (!has(name) && tail(name) < (at % MIB) + quarter) break
    reached = at + quarter
  }
  return reached !== null && reached >= Number(span.stopLsn) ? reached : null
}

test('windows end exactly where a walk along the log ends', () => {
  const quarters = (max: number) => fc.integer({ min: 4, max: max * 4 }).map((n) => n / 4)
  const model = fc.record({
    one: fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 12 }),
    two: fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 12 }),
    tail: fc.option(fc.tuple(fc.constantFrom(1, 2), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 3 }))),
    conflict: fc.option(fc.integer({ min: 1, max: 12 })),
    fork: quarters(10),
    start: quarters(10),
    length: fc.integer({ min: 1, max: 6 }).map((n) => n / 4),
  })
  fc.assert(
    fc.property(model, ({ one, two, tail, conflict, fork, start, length }) => {
      const span = point('p', 1, start, start + length)
      const segments = [...one.map((n): [number, number] => [1, n]), ...two.map((n): [number, number] => [2, n])]
      const conflicts = conflict === null ? [] : [conflictName(segmentName(1, BigInt(conflict), MIB))]
      // A tail of a segment that is there whole is not listed.
      const tails =
        tail && !segments.some(([timeline, n]) => timeline === tail[0] && n === tail[1])
          ? [tail].map(([timeline, n, quarter]): [number, number, number] => [timeline, n, (quarter * MIB) / 4])
          : []
      const log = listing(segments, tails, conflicts)
      const history: TimelineHistory = { timeline: 2, ancestors: [{ timeline: 1, end: BigInt(fork * MIB) }] }
      const { windows, unusable } = findWindows([span], log, new Map([[2, history]]))
      const expected = new Map<number, number>()
      const old = naiveEnd(span, 1, null, log)
      if (old !== null) expected.set(1, old)
      const young = span.startLsn <= BigInt(fork * MIB) ? naiveEnd(span, 2, history, log) : null
      if (young !== null) expected.set(2, young)
      // The old way is left out where the new one covers it.
      if (old !== null && young !== null && old <= fork * MIB && young >= old) expected.delete(1)
      assert.deepEqual(new Map(windows.map((window) => [window.timeline, Number(window.to)])), expected)
      assert.equal(unusable.length, expected.size === 0 ? 1 : 0)
    }),
    { numRuns: 2000 },
  )
})
