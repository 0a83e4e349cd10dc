import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ambient } from '../../model.ts'
import { isPinGone, isSessionGone } from './liveness.ts'

const NOW_MS = Date.UTC(2026, 0, 10)

function seenBy(alive: boolean | null): Ambient {
  return {
    now: () => NOW_MS,
    randomBytes: Buffer.alloc,
    log: () => undefined,
    process: { identity: 'me', isAlive: () => alive },
  }
}

/** Hours since it began, by the clock of who looks; whether its process lives; what a session and a pin are taken for. */
const TABLE: [number, boolean | null, 'dead' | 'silent' | null, 'dead' | 'silent' | null][] = [
  [0, false, 'dead', 'dead'],
  [0, null, null, null],
  [23, null, null, null],
  [25, null, 'silent', null],
  [-23, null, null, null],
  [-25, null, 'silent', null],
  [25, true, null, null],
  // Its clock, or ours, was set right while it works.
  [-48, true, null, null],
  [-48, null, 'silent', null],
  [7 * 24 + 1, null, 'silent', 'silent'],
  [7 * 24 + 1, true, 'silent', 'silent'],
  [-7 * 24 - 1, true, 'silent', 'silent'],
  [Number.NaN, true, 'silent', 'silent'],
]

for (const [hours, alive, session, pin] of TABLE)
  test(`begun ${hours} hours ago, ${alive === null ? 'perhaps alive' : alive ? 'alive' : 'dead'}`, () => {
    const startedAt = Number.isNaN(hours) ? 'never' : new Date(NOW_MS - hours * 3_600_000).toISOString()
    const trace = { startedAt, process: 'other' }
    assert.deepEqual([isSessionGone(seenBy(alive), trace), isPinGone(seenBy(alive), trace)], [session, pin])
  })
