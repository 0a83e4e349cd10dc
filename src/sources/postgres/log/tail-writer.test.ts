import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MemoryLog } from '../../../../test/support/postgres-recorders.ts'
import { TailWriter } from './tail-writer.ts'

const KIB = 1024
const SEGMENT = Buffer.from(Array.from({ length: 1024 * KIB }, (_, i) => (i * 7919) >> 5))

/** Counts its calls, and at each that what was called durable is still there: a crash may come after any of them. */
class WatchedLog extends MemoryLog {
  promised = 0
  calls = 0

  held(): Buffer {
    return this.tails.get('1/s')?.bytes ?? Buffer.alloc(0)
  }

  override async putTail(
    branch: string,
    name: string,
    offset: number,
    bytes: Buffer,
    meta: { until: string },
  ): Promise<void> {
    await super.putTail(branch, name, offset, bytes, meta)
    this.calls++
    const held = this.held()
    assert.ok(held.length >= this.promised, `${held.length} of ${this.promised} bytes are left`)
    assert.ok(held.equals(SEGMENT.subarray(0, held.length)))
  }
}

function writerOf(log: WatchedLog, untilMs = 0): TailWriter {
  return new TailWriter({ store: log, branch: '1', name: 's', stored: log.held(), untilMs, idleMs: 1000 })
}

test('what was shipped stays whole, however it grows and however often we begin again', async () => {
  const step = fc.record({ grow: fc.oneof(fc.nat(300), fc.nat(20 * KIB), fc.nat(400 * KIB)), restart: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const log = new WatchedLog()
      let writer = writerOf(log)
      let filled = 0
      for (const { grow, restart } of steps) {
        if (restart) writer = writerOf(log)
        filled = Math.min(SEGMENT.length, filled + grow)
        assert.ok(writer.agrees(SEGMENT, filled))
        await writer.ship(SEGMENT, filled, 1)
        log.promised = filled
        assert.equal(log.held().length, filled)
      }
    }),
  )
})

test('a piece that is cut where another begins leaves nothing out in between', async () => {
  const log = new WatchedLog()
  const writer = writerOf(log)
  await writer.ship(SEGMENT, 255 * KIB, 1)
  log.promised = 255 * KIB
  await writer.ship(SEGMENT, 257 * KIB, 1)
  assert.equal(log.held().length, 257 * KIB)
})

test('little is written again, and an idle piece only when it has grown old', async () => {
  const log = new WatchedLog()
  const writer = writerOf(log)
  const written: number[] = []
  const put = log.putTail.bind(log)
  log.putTail = async (branch, name, offset, bytes, meta) => {
    written.push(bytes.length)
    await put(branch, name, offset, bytes, meta)
  }
  for (let filled = 1000; filled <= 1000 * KIB; filled += 1000) await writer.ship(SEGMENT, filled, 0)
  assert.ok(Math.max(...written) <= 257 * KIB)
  const before = log.calls
  assert.equal(await writer.ship(SEGMENT, 1000 * KIB, 900), false)
  assert.equal(await writer.ship(SEGMENT, 1000 * KIB, 1901), true)
  assert.ok(log.calls <= before + 2)
  assert.equal(log.tails.get('1/s')?.meta.until, new Date(1901).toISOString())
})

test('other bytes than the store holds are noticed once', async () => {
  const log = new WatchedLog()
  await writerOf(log).ship(SEGMENT, 5000, 1)
  const writer = writerOf(log)
  const foreign = Buffer.from(SEGMENT)
  foreign[4999] = (foreign[4999] ?? 0) ^ 1
  assert.equal(writer.agrees(foreign, 4999), true)
  assert.equal(writer.agrees(foreign, 5000), false)
  assert.equal(writer.agrees(foreign, 5001), true)
})
