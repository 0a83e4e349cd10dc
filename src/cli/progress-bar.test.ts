import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProgressMeter } from './progress-bar.ts'

test('without a total: what is done and how fast', () => {
  const meter = new ProgressMeter()
  assert.equal(meter.line({ phase: 'reading', bytesDone: 0 }, 0, 80, true), 'reading  0 B')
  assert.equal(
    meter.line({ phase: 'reading', bytesDone: 4e6, filesDone: 12 }, 2000, 80, true),
    'reading  4.00 MB  12 files  2.00 MB/s',
  )
})

test('with a total: bar, share, rate and time left', () => {
  const meter = new ProgressMeter()
  meter.line({ phase: 'writing', bytesDone: 0, bytesTotal: 100e6 }, 0, 90, false)
  assert.equal(
    meter.line({ phase: 'writing', bytesDone: 50e6, bytesTotal: 100e6 }, 5000, 90, false),
    'writing  ###############---------------  50 %  50.0 MB of 100 MB  10.0 MB/s  5.0 s left',
  )
})

test('the rate is of the last seconds, and begins anew with each phase', () => {
  const meter = new ProgressMeter()
  for (let s = 0; s <= 20; s++) meter.line({ phase: 'reading', bytesDone: s * 100e6 }, s * 1000, 80, true)
  // Nothing has come for ten seconds: the good start is forgotten.
  for (let s = 21; s <= 30; s++) meter.line({ phase: 'reading', bytesDone: 2e9 }, s * 1000, 80, true)
  assert.match(meter.line({ phase: 'reading', bytesDone: 2e9 }, 31_000, 80, true), / {2}0 B\/s$/)
  assert.equal(meter.line({ phase: 'finishing', bytesDone: 5 }, 32_000, 80, true), 'finishing  5 B')
})

test('no line reaches the last column, whatever the width', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.nat(1e12), fc.nat(1e12), (columns, done, total) => {
      const meter = new ProgressMeter()
      const progress = { phase: 'reading', bytesDone: done, bytesTotal: total, filesDone: done }
      meter.line(progress, 0, columns, true)
      const line = meter.line({ ...progress, bytesDone: done + 1 }, 1000, columns, true)
      assert.ok(line.length < Math.max(1, columns))
    }),
  )
})
