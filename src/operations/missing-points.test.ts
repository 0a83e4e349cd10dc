import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Point } from '../model.ts'
import { missingPoints } from './missing-points.ts'

const NOW = Date.parse('2026-06-10T00:00:00Z')

/** At `here` by their names; at `there` as copies of those. */
function point(id: string, date: string, more: object = {}): Point {
  return { id, committedAt: `${date}T00:00:00.000Z`, ...more } as Point
}
const copyOf = (id: string, date: string) => point(`copy of ${id}`, date, { origin: { repository: 'here', point: id } })

function missing(points: Point[], copies: Point[], all = false): string[] {
  const sorted = (list: Point[]) => list.sort((a, b) => a.committedAt.localeCompare(b.committedAt))
  const here = { repository: 'here', points: sorted(points) }
  const there = { repository: 'there', points: sorted(copies) }
  return missingPoints(here, there, { all, now: NOW }).map(({ id }) => id)
}

const a = point('a', '2026-06-01')
const b = point('b', '2026-06-02', { previous: { id: 'a' } })
const c = point('c', '2026-06-03', { previous: { id: 'b' } })

test('what is newer than the newest there; all else only if all is asked for', () => {
  assert.deepEqual(missing([a, b, c], []), ['a', 'b', 'c'])
  assert.deepEqual(missing([a, b, c], [copyOf('b', '2026-06-02')]), ['c'])
  assert.deepEqual(missing([a, b, c], [copyOf('b', '2026-06-02')], true), ['a', 'c'])
  assert.deepEqual(missing([a, b, c], [copyOf('c', '2026-06-03')]), [])
})

test('a point there of a clock that was ahead keeps no later one away', () => {
  const ahead = point('ahead', '2027-01-01', { previous: { id: 'a' } })
  const after = point('after', '2026-06-02', { previous: { id: 'ahead' } })
  const copies = [copyOf('a', '2026-06-01'), copyOf('ahead', '2027-01-01')]
  assert.deepEqual(missing([a, ahead, after], copies), ['after'])
  assert.deepEqual(missing([a, ahead, after], copies.slice(1)), ['a', 'after'])
})

test('points of a clock that was behind are as new as those they followed', () => {
  const behind = point('behind', '2020-01-01', { previous: { id: 'b' } })
  const later = point('later', '2020-01-02', { previous: { id: 'b' } })
  assert.deepEqual(missing([a, b, behind, later], [copyOf('b', '2026-06-02')]), ['behind', 'later'])
  assert.deepEqual(missing([a, b, behind, c], [copyOf('c', '2026-06-03')]), [], 'there it was removed with b')
  const copied = point('copied', '2020-01-01', { previous: { id: 'b' }, origin: { repository: 'x', point: 'y' } })
  assert.deepEqual(missing([a, b, copied], [copyOf('b', '2026-06-02')]), [])
})
