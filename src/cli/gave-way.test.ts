import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gaveWayLine } from './gave-way.ts'

test('the result of a backup says how long it waited for others, and what has it so', () => {
  assert.equal(
    gaveWayLine({ gaveWayMs: 230_000, durationMs: 236_000 }),
    '  3 min 50 s of that it waited, because others kept the processors busy (limits: busy in regain.yaml)',
  )
  assert.equal(gaveWayLine({ gaveWayMs: 2000, durationMs: 236_000 }), null)
  assert.equal(gaveWayLine({ gaveWayMs: 0, durationMs: 236_000 }), null)
})
