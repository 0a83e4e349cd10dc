import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryLog } from '../../../../test/support/postgres-recorders.ts'
import { RegainError } from '../../../errors.ts'
import type { Point } from '../../../model.ts'
import { formatLsn } from '../protocol/lsn.ts'
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

test('a moment before a damaged segment is reached, whatever lies behind it', async () => {
  const log = new MemoryLog()
  for (const segment of [2, 3, 4, 5, 6]) {
    const until = `2026-01-0${segment}T00:00:09Z`
    await log.putSegment('00000001', `00000001000000000000000${segment}`, Buffer.alloc(16 * 1024 * 1024), { until })
  }
  const { read } = log
  const damaged = new Set<string>()
  log.read = async (branch, name) => {
    if (damaged.has(name)) throw new RegainError('repository-damaged', 'It was changed.')
    return read.call(log, branch, name)
  }
  log.readUntil = async (pieces) =>
    pieces.map(({ name }) => (damaged.has(name) ? null : (log.segments.get(`00000001/${name}`)?.meta.until ?? null)))
  const plan = (points: Point[], time: string) =>
    planRecovery(points, log, { kind: 'time', time }, new AbortController().signal)
  for (const segment of [5, 4]) damaged.add(`00000001000000000000000${segment}`)
  const { end, until, notes } = await plan([pointIn(2)], '2026-01-03T00:00:01Z')
  assert.deepEqual([formatLsn(end), until], ['0/4000000', '2026-01-03T00:00:09Z'])
  assert.match(notes.join(), /000000010000000000000004 of the log is damaged/)
  await assert.rejects(plan([pointIn(2)], '2026-01-05T00:00:01Z'), {
    code: 'moment-unreachable',
    message: /000000010000000000000004 of the log is damaged/,
  })
  // A newer point begins behind it.
  assert.equal((await plan([pointIn(2), pointIn(6)], '2026-01-06T00:00:07Z')).point, 'p6')
})
