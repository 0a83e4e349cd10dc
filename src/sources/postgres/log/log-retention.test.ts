import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { LogListing } from '../../contract.ts'
import { findWindows, type PointSpan } from '../recovery/window.ts'
import { type BranchRange, type PointNeed, unneededLog } from './log-retention.ts'
import type { TimelineHistory } from './timeline.ts'
import { branchName, segmentName } from './wal.ts'

const MIB = 1024 * 1024

/** Timeline and number of each whole segment, in MiB, and of each tail. */
function listing(segments: [number, number][], tails: [number, number][] = []): LogListing {
  const place = ([timeline, number]: [number, number]) => ({
    branch: branchName(timeline),
    name: segmentName(timeline, BigInt(number), MIB),
  })
  return {
    segments: segments.map(place),
    tails: tails.map((tail) => ({ ...place(tail), available: MIB / 2 })),
    histories: [],
  }
}

const at = (megabytes: number) => BigInt(Math.round(megabytes * MIB))
const need = (timeline: number, start: number, stop: number, onward: boolean): PointNeed => ({
  timeline,
  startLsn: at(start),
  stopLsn: at(stop),
  segmentBytes: MIB,
  onward,
})
const history = (timeline: number, ...ancestors: [number, number][]): [number, TimelineHistory] => [
  timeline,
  { timeline, ancestors: ancestors.map(([parent, end]) => ({ timeline: parent, end: at(end) })) },
]
const numbers = (from: number, to: number, timeline = 1): [number, number][] =>
  Array.from({ length: to - from + 1 }, (_, i) => [timeline, from + i])
/** 'T from-to (count)', to exclusive. */
const shown = (ranges: BranchRange[]) =>
  ranges.map(({ branch, from, to, segments }) => {
    const number = (name: string) => Number.parseInt(name.slice(16), 16)
    return `${Number.parseInt(branch, 16)} ${number(from)}-${number(to)} (${segments})`
  })

test('before the first point kept with all later moments, only the log of each backup stays', () => {
  const log = listing(numbers(1, 20))
  const points = [need(1, 3.5, 4.2, false), need(1, 8.1, 8.2, false), need(1, 12.5, 13, true), need(1, 15, 15.5, true)]
  assert.deepEqual(shown(unneededLog(points, log, new Map())), ['1 1-3 (2)', '1 5-8 (3)', '1 9-12 (3)'])
})

test('a range covers nothing that is needed and missing: verification goes on to miss it', () => {
  const log = listing([...numbers(1, 3), ...numbers(6, 9)], [[1, 4]])
  assert.deepEqual(shown(unneededLog([need(1, 5.1, 5.2, false), need(1, 9, 9.5, true)], log, new Map())), [
    '1 1-5 (3)',
    '1 6-9 (3)',
  ])
})

test('a window across timelines keeps the way to each of them, and the file that holds the fork', () => {
  const log = listing([...numbers(1, 8), ...numbers(6, 12, 2), ...numbers(10, 14, 3)])
  const histories = new Map([history(2, [1, 6.5]), history(3, [1, 6.5], [2, 10.5])])
  // From a point on the first, everything on all.
  assert.deepEqual(shown(unneededLog([need(1, 3, 3.5, true)], log, new Map())), ['1 1-3 (2)'])
  assert.deepEqual(shown(unneededLog([need(1, 3, 3.5, true)], log, histories)), ['1 1-3 (2)'])
  // From a point on the second, nothing of the first but what the backup itself spans.
  assert.deepEqual(
    shown(unneededLog([need(2, 6.7, 7.5, true)], log, histories)),
    ['1 1-6 (5)', '1 8-9 (1)', '2 14-14 (0)'].slice(0, 2),
  )
  // A third that came from the second before the point is none of its future; but a newer one than all points may be at work.
  assert.deepEqual(shown(unneededLog([need(2, 11, 11.5, true)], log, histories)), ['1 1-9 (8)', '2 6-11 (5)'])
  assert.deepEqual(shown(unneededLog([need(2, 11, 11.5, true), need(3, 13, 13.5, true)], log, histories)), [
    '1 1-9 (8)',
    '2 6-11 (5)',
    '3 10-11 (1)',
    '3 12-13 (1)',
  ])
})

test('what came from nowhere that is known stays', () => {
  const log = listing([...numbers(1, 4), ...numbers(1, 9, 2), ...numbers(8, 9, 3)])
  assert.deepEqual(shown(unneededLog([need(3, 8.5, 9, true)], log, new Map([history(3, [2, 8])]))), ['1 1-5 (4)'])
})

test('without points, or with points of different segment sizes, all stays', () => {
  const log = listing(numbers(1, 4))
  assert.deepEqual(unneededLog([], log, new Map()), [])
  const other = { ...need(1, 4, 4.5, true), segmentBytes: 16 * MIB }
  assert.deepEqual(unneededLog([need(1, 3, 3.5, true), other], log, new Map()), [])
})

test('what is left brings back all that the kept points promise, whatever the timelines', () => {
  const quarter = (max: number) => fc.integer({ min: 4, max: max * 4 }).map((n) => n / 4)
  const some = fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { maxLength: 12 })
  const anyPoint = fc.record({
    timeline: fc.constantFrom(1, 2, 3),
    start: quarter(11),
    length: quarter(2).map((n) => n - 0.75),
    onward: fc.boolean(),
  })
  const model = fc.record({
    logs: fc.tuple(some, some, some),
    tail: fc.option(fc.tuple(fc.constantFrom(1, 2, 3), fc.integer({ min: 1, max: 12 }))),
    first: quarter(10),
    second: quarter(10),
    parent: fc.constantFrom(1, 2),
    known: fc.boolean(),
    points: fc.array(anyPoint, { maxLength: 5 }),
  })
  let removed = 0
  fc.assert(
    fc.property(model, ({ logs, tail, first, second, parent, known, points }) => {
      const segments = logs.flatMap((log, i) => log.map((number): [number, number] => [i + 1, number]))
      const isWhole = segments.some(([timeline, number]) => timeline === tail?.[0] && number === tail[1])
      const before = listing(segments, tail && !isWhole ? [tail] : [])
      const third = parent === 1 ? history(3, [1, second]) : history(3, [1, first], [2, Math.max(first, second)])
      const histories = new Map([...(known ? [history(2, [1, first])] : []), third])
      const needs = points.map(({ timeline, start, length, onward }) => need(timeline, start, start + length, onward))
      const ranges = unneededLog(needs, before, histories)
      const stays = ({ branch, name }: { branch: string; name: string }) =>
        !ranges.some((range) => range.branch === branch && range.from <= name && name < range.to)
      const after = { ...before, segments: before.segments.filter(stays), tails: before.tails.filter(stays) }
      const gone = before.segments.length - after.segments.length
      assert.equal(
        ranges.reduce((sum, range) => sum + range.segments, 0),
        gone,
      )
      removed += gone
      for (const [i, point] of needs.entries()) {
        const span: PointSpan = { ...point, id: String(i), stopTime: '2026-01-01T00:00:00Z' }
        const reach = (log: LogListing) =>
          findWindows([span], log, histories).windows.map((w) => `${w.timeline} ${w.to}`)
        if (point.onward) assert.deepEqual(reach(after), reach(before))
        else assert.equal(reach(after).length > 0, reach(before).length > 0)
      }
    }),
    { numRuns: 3000 },
  )
  assert.ok(removed > 1000, `the model removes something: ${removed}`)
})
