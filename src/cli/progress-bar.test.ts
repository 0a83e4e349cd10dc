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

test('a line that waits for others says so, and with what setting', () => {
  const meter = new ProgressMeter()
  const at = (bytesDone: number, gaveWayMs?: number) => ({
    phase: 'reading',
    bytesDone,
    bytesTotal: 487e6,
    ...(gaveWayMs === undefined ? {} : { gaveWayMs }),
  })
  meter.line(at(40e6), 0, 130, false)
  // A hundredth of the time is nothing to speak of.
  assert.equal(
    meter.line(at(60e6, 20), 2000, 100, false),
    'reading  ####--------------------------  12 %  60.0 MB of 487 MB  10.0 MB/s  42.7 s left',
  )
  const waits = 'waits: others keep the processors busy (limits: busy)'
  assert.equal(
    meter.line(at(70e6, 1920), 4000, 130, false),
    `reading  ##------------  14 %  ${waits}  70.0 MB of 487 MB  7.50 MB/s  55.6 s left`,
  )
  // As much as there is room for, and no half of a number.
  assert.equal(meter.line(at(70e6, 1920), 4000, 80, false), `reading  #------  14 %  ${waits}`)
  // It is over when nothing was waited for in the last seconds.
  assert.doesNotMatch(meter.line(at(200e6, 1920), 12_500, 130, false), /waits/)
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
