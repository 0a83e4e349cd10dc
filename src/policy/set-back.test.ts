import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compareWithSeen, type SeenThen } from './set-back.ts'

const at = (day: number) => `2026-01-0${day}T00:00:00.000Z`
const point = (name: string, day: number) => ({ source: name.slice(0, 2), id: name, committedAt: at(day) })
const seen = (name: string, day: number, isLost = false) => ({
  source: name.slice(0, 2),
  point: name,
  committedAt: at(day),
  isLost,
})

const CASES: Record<
  string,
  {
    seen: SeenThen['points'] | null
    found: ReturnType<typeof point>[]
    expired?: string[]
    lost: string[]
    next: string[]
  }
> = {
  'nothing was seen before': { seen: null, found: [point('db1', 1), point('db2', 2)], lost: [], next: ['db2'] },
  'the newest is still there': { seen: [seen('db1', 1)], found: [point('db1', 1)], lost: [], next: ['db1'] },
  'a newer one came': { seen: [seen('db1', 1)], found: [point('db1', 1), point('db2', 2)], lost: [], next: ['db2'] },
  'the newest is gone': { seen: [seen('db2', 2)], found: [point('db1', 1)], lost: ['db2'], next: ['db1', 'db2!'] },
  'all are gone': { seen: [seen('db2', 2)], found: [], lost: ['db2'], next: ['db2!'] },
  'the newest was removed on purpose': {
    seen: [seen('db2', 2)],
    found: [point('db1', 1)],
    expired: ['db2'],
    lost: [],
    next: ['db1'],
  },
  'what was the newest is gone, and others took newer ones': {
    seen: [seen('db1', 1)],
    found: [point('db2', 2)],
    lost: [],
    next: ['db2'],
  },
  'one that was found lost stays so, whatever is taken later': {
    seen: [seen('db2', 2, true), seen('db1', 1)],
    found: [point('db1', 1), point('db3', 3)],
    lost: ['db2'],
    next: ['db3', 'db2!'],
  },
  'one that was found lost came back': {
    seen: [seen('db2', 2, true)],
    found: [point('db2', 2)],
    lost: [],
    next: ['db2'],
  },
  'of several sources one is set back': {
    seen: [seen('db2', 2), seen('fs2', 2)],
    found: [point('db2', 2), point('fs1', 1)],
    lost: ['fs2'],
    next: ['db2', 'fs1', 'fs2!'],
  },
}

describe('a repository compared with what was seen of it', () => {
  for (const [what, { seen: points, found, expired = [], lost, next }] of Object.entries(CASES))
    it(`${what}`, () => {
      const comparison = compareWithSeen(points && { id: 'a', points }, {
        id: 'a',
        points: found,
        expired: new Set(expired),
      })
      assert.equal(comparison.isOther, false)
      assert.deepEqual(
        comparison.lost.map((one) => one.point),
        lost,
      )
      assert.deepEqual(
        comparison.next.points.map((one) => one.point + (one.isLost ? '!' : '')),
        next,
      )
    })

  it('another repository: nothing of the one that was seen is forgotten', () => {
    const then = { id: 'a', points: [seen('db1', 1)] }
    const comparison = compareWithSeen(then, { id: 'b', points: [point('db9', 9)], expired: new Set() })
    assert.deepEqual(comparison, { isOther: true, lost: [], next: then })
  })
})
