import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openCatalog } from '../catalog/catalog.ts'
import { RegainError } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import type { ScheduleRule } from '../policy/schedule.ts'
import { JobQueue } from './job-queue.ts'
import { createScheduler } from './scheduler.ts'
import type { DaemonWork } from './work.ts'

test('a run is ended when its window closes, and is not called a failure', async (t) => {
  // A moment before the window closes.
  const { scheduler, queue, lines } = scheduled(t, '2026-01-10T05:59:59.950Z', async (_name, _destination, options) => {
    await once(options.signal, 'abort')
    throw new RegainError('interrupted', 'The backup was interrupted.')
  })
  assert.equal(await scheduler.turn(), 50)
  await queue.idle()
  assert.deepEqual(lines, [
    'info: A backup begins.',
    'warning: The backup was ended with its window; it goes on when that opens again.',
    'ended',
  ])
})

test('the log says how long a backup waited for others, if that is worth telling', async (t) => {
  for (const [gaveWayMs, told] of [
    [230_000, ' 230000'],
    [999, ''],
  ] as const) {
    const { scheduler, queue, lines } = scheduled(t, '2026-01-10T01:00:00Z', async () => {
      const bytes = { source: 1, read: 1, new: 1, stored: 1 }
      const point = { id: '1'.repeat(32), kind: 'full', complete: true, bytes } as Point
      return { point, trouble: null, gaveWayMs }
    })
    await scheduler.turn()
    await queue.idle()
    assert.deepEqual(lines, ['info: A backup begins.', `info: The backup is complete.${told}`, 'ended'])
  }
})

/** One source, whose backup is due, and what the log says of it: how long it gave way as well. */
function scheduled(t: TestContext, time: string, backup: DaemonWork['backup']) {
  const directory = mkdtempSync(join(tmpdir(), 'regain-scheduler-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const lines: string[] = []
  const now = Date.parse(time)
  const ambient: Ambient = {
    now: () => now,
    randomBytes: (size) => Buffer.alloc(size, 1),
    log: (level, message, { gaveWayMs } = {}) =>
      void lines.push(`${level}: ${message}${gaveWayMs === undefined ? '' : ` ${gaveWayMs}`}`),
  }
  const catalog = openCatalog({ directory, ambient, pid: process.pid, isDaemon: true })
  t.after(() => catalog.close())
  const window = { startMinute: 22 * 60, endMinute: 6 * 60 }
  const names = { service: 'shop', source: 'db', destination: 'hot' }
  const rule: ScheduleRule = { ...names, kind: 'full', cron: '0 0 * * *', timeZone: 'UTC', window, jitterMs: 0 }
  const { signal } = new AbortController()
  const queue = new JobQueue(1, signal)
  const scheduler = createScheduler({
    rules: [rule],
    work: {
      backup,
      follow: async () => {},
      guard: async () => null,
      prune: () => Promise.reject(new RegainError('internal', 'No prune was expected.')),
      points: async () => [],
    },
    catalog: () => catalog,
    queue,
    ambient,
    signal,
    onEnd: () => lines.push('ended'),
  })
  return { scheduler, queue, lines }
}
