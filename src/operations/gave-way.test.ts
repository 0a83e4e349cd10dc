import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Waited, wasHeldBack } from './gave-way.ts'

test('what all sessions of a backup wait is counted once, and told with its progress', () => {
  const waited = new Waited()
  const [point, tenant] = [{ gaveWayMs: 0 }, { gaveWayMs: 0 }]
  const [notePoint, noteTenant] = [waited.follow(point), waited.follow(tenant)]
  const progress = { phase: 'reading', bytesDone: 5 }
  notePoint()
  assert.deepEqual(waited.beside(progress), progress)
  point.gaveWayMs = 300
  notePoint()
  tenant.gaveWayMs = 50
  noteTenant()
  point.gaveWayMs = 1000
  notePoint()
  notePoint()
  assert.equal(waited.gaveWayMs, 1050)
  assert.deepEqual(waited.beside(progress), { ...progress, gaveWayMs: 1050 })
})

test('only a second or more that is a tenth of the time or more is worth telling', () => {
  assert.equal(wasHeldBack(1000, 10_000), true)
  assert.equal(wasHeldBack(999, 1000), false)
  assert.equal(wasHeldBack(1000, 10_001), false)
  assert.equal(wasHeldBack(0, 0), false)
})
