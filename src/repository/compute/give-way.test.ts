import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nextShare, parseProcessorTimes, readProcessorTimes, useBetween } from './give-way.ts'

const FLOOR = 0.02

describe('the share of the processors that a backup takes', () => {
  const cases: [string, number, { others: number; idle: number }, number][] = [
    ['all, with nobody else at work', 1, { others: 0.02, idle: 0.1 }, 1],
    ['all, when only the server that sends to it is', 1, { others: 0.2, idle: 0 }, 1],
    ['half as much, when others have work and nothing is idle', 1, { others: 0.5, idle: 0.01 }, 0.5],
    ['never less than its least', 0.03, { others: 0.95, idle: 0.02 }, FLOOR],
    ['the same, when there is a little room', 0.3, { others: 0.6, idle: 0.12 }, 0.3],
    ['more, when there is plenty', 0.1, { others: 0.5, idle: 0.4 }, 0.3],
    ['never more than all', 0.9, { others: 0.3, idle: 0.6 }, 1],
    ['all at once, when the others have gone', FLOOR, { others: 0.01, idle: 0.95 }, 1],
  ]
  for (const [what, share, use, next] of cases)
    it(`is ${what}`, () => assert.ok(Math.abs(nextShare(share, use, FLOOR) - next) < 1e-9))
})

describe('the use of the processors', () => {
  const times = (busyNs: number, idleNs: number) => ({ busyNs: BigInt(busyNs), idleNs: BigInt(idleNs) })

  it('is shared among this process, others and nobody', () => {
    assert.deepEqual(useBetween(times(100, 500), times(175, 525), 25n), { others: 0.5, idle: 0.25 })
  })

  it('is none of others where ticks count less than was used', () => {
    assert.deepEqual(useBetween(times(0, 0), times(10, 90), 15n), { others: 0, idle: 0.9 })
  })

  it('is unknown within one tick', () => {
    assert.equal(useBetween(times(5, 5), times(5, 5), 1n), null)
  })

  it('is read from the first line of /proc/stat, without what a hypervisor took', () => {
    const text = 'cpu  100 10 50 1000 200 3 7 999 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n'
    assert.deepEqual(parseProcessorTimes(text), { busyNs: 1_700_000_000n, idleNs: 12_000_000_000n })
    assert.equal(parseProcessorTimes(''), null)
  })

  it('is told by this system', () => {
    const now = readProcessorTimes()
    assert.ok(now !== null && now.busyNs > 0n)
  })
})
