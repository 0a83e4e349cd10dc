import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decideLog, type LogRules } from './log-retention.ts'
import { decideRetention, type PointFact, type RetentionRules } from './retention.ts'

const DAY_MS = 86_400_000
const at = (day: number): number => Date.UTC(2026, 0, day)
const NOW = at(200)

/** A point a day, named by its day. */
const days = (from: number, to: number): PointFact[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ id: `d${from + i}`, committedAt: at(from + i), complete: true }))

function decide(points: PointFact[], rules: Omit<RetentionRules, 'timeZone'> & LogRules) {
  const all = { timeZone: 'UTC', ...rules }
  const decisions = decideRetention(points, all, NOW)
  const { from, onward } = decideLog(points, decisions, all)
  const kept = decisions.filter(({ keep }) => keep).map(({ id }) => id)
  return { from, onward: [...onward].sort(), apart: kept.filter((id) => !onward.has(id)) }
}

test('without a time of its own the log reaches as far back as the finest rules', () => {
  const points = days(1, 60)
  assert.equal(decide(points, { daily: 7, monthly: 3 }).from, 'd54')
  assert.deepEqual(decide(points, { daily: 7, monthly: 3 }).apart, ['d31'])
  assert.equal(decide(points, { last: 2, withinMs: 3 * DAY_MS, yearly: 1 }).from, 'd57')
  assert.equal(decide(points, { weekly: 2, monthly: 3 }).from, 'd53')
  assert.equal(decide(points, { yearly: 3 }).from, 'd60')
})

test('with one, from the oldest kept point within it', () => {
  const points = days(1, 60)
  assert.equal(decide(points, { daily: 7, log: 3 * DAY_MS }).from, 'd57')
  assert.deepEqual(decide(points, { daily: 7, log: 3 * DAY_MS }).apart, ['d54', 'd55', 'd56'])
  assert.equal(decide(points, { daily: 7, monthly: 3, log: 40 * DAY_MS }).from, 'd31')
  assert.equal(decide(points, { daily: 7, monthly: 3, log: 20 * DAY_MS }).from, 'd54')
  assert.equal(decide(points, { daily: 7, monthly: 3, log: 'all' }).from, 'd31')
  assert.equal(decide(points, { monthly: 3, log: 1 }).from, 'd60')
})

test('everything, and nothing, keep all of it', () => {
  assert.equal(decide(days(1, 3), { all: true, log: DAY_MS }).from, null)
  assert.equal(decide([], { daily: 7 }).from, null)
  assert.equal(decide([{ id: 'f', committedAt: at(300), complete: true }], { daily: 7 }).from, null)
})

test('a held point before it has the log of its own backup; one without a place in time has all', () => {
  const points = days(1, 30).map((point) => (point.id === 'd3' ? { ...point, hold: 'law' } : point))
  const future = { id: 'f', committedAt: at(300), complete: true }
  const setBack = { id: 's', committedAt: at(2), complete: true, previous: 'd30' }
  const { from, onward, apart } = decide([...points, future, setBack], { daily: 2 })
  assert.equal(from, 'd29')
  assert.deepEqual(onward, ['d29', 'd30', 'f', 's'])
  assert.deepEqual(apart, ['d3'])
})
