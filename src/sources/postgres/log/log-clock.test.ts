import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LogClock } from './log-clock.ts'

test('a piece is complete up to the clock of the message before the one that names its end', () => {
  const clock = new LogClock(5, null)
  clock.onMessage(100n, 1000)
  assert.equal(clock.untilMs(100n), 5)
  clock.onMessage(200n, 2000)
  assert.deepEqual([clock.untilMs(199n), clock.untilMs(200n)], [5, 1000])
  // Idle: the same end, later and later.
  clock.onMessage(200n, 9000)
  clock.onMessage(200n, 12_000)
  assert.deepEqual([clock.untilMs(199n), clock.untilMs(200n)], [5, 9000])
  clock.forget(200n)
  clock.onMessage(200n, 15_000)
  assert.equal(clock.untilMs(200n), 12_000)
  assert.equal(new LogClock(0, { end: 50n, clockMs: 7 }).untilMs(50n), 7)
})

test('it never claims a moment at which more had been written', () => {
  // A server: bytes are written at moments; it looks at its end first and at its clock after.
  const step = fc.record({ write: fc.nat(3), passMs: fc.nat(5), send: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.array(fc.nat(200), { maxLength: 20 }), (steps, questions) => {
      const clock = new LogClock(0, null)
      const written: { end: bigint; atMs: number }[] = []
      let end = 0n
      let nowMs = 1
      for (const { write, passMs, send } of steps) {
        const seen = end
        if (write > 0) {
          end += BigInt(write)
          written.push({ end, atMs: nowMs })
        }
        nowMs += passMs
        // What was written between the look and the clock is in no one's message yet.
        if (send) clock.onMessage(seen, nowMs)
        nowMs += 1
      }
      for (const question of questions) {
        const untilMs = clock.untilMs(BigInt(question))
        const later = written.filter((piece) => piece.atMs < untilMs && piece.end > BigInt(question))
        assert.deepEqual(later, [])
      }
    }),
  )
})
