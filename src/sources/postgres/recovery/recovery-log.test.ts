import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryLog } from '../../../../test/support/postgres-recorders.ts'
import type { Point } from '../../../model.ts'
import { planRecovery, recoveryWindows } from './recovery-log.ts'

const pointIn = (segment: number): Point =>
  ({
    id: `p${segment}`,
    positions: {
      systemId: '7',
      version: '17.2',
      major: 17,
      timeline: 1,
      startLsn: `0/${segment}000028`,
      stopLsn: `0/${segment}000100`,
      startTime: `2026-01-0${segment}T00:00:00Z`,
      stopTime: `2026-01-0${segment}T00:00:05Z`,
      walSegmentBytes: 16 * 1024 * 1024,
      tablespaces: [],
      settings: {},
    },
  }) as unknown as Point

test('a point is restored although nobody can tell how far the log of another one reaches', async () => {
  const log = new MemoryLog()
  for (const segment of [2, 5]) {
    const until = `2026-01-0${segment}T00:00:09Z`
    await log.putSegment('00000001', `00000001000000000000000${segment}`, Buffer.alloc(16 * 1024 * 1024), { until })
  }
  log.readUntil = async (pieces) =>
    pieces.map(({ name }) => (name.endsWith('2') ? null : (log.segments.get(`00000001/${name}`)?.meta.until ?? null)))
  const points = [pointIn(2), pointIn(5)]
  const windows = await recoveryWindows(points, log)
  assert.deepEqual(
    windows.map(({ point, to }) => [point, to.time]),
    [
      ['p2', '2026-01-02T00:00:05Z'],
      ['p5', '2026-01-05T00:00:09Z'],
    ],
  )
  const plan = await planRecovery(points, log, { kind: 'latest' }, new AbortController().signal)
  assert.deepEqual([plan.point, plan.until], ['p5', '2026-01-05T00:00:09Z'])
})
