import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openCatalog } from '../catalog/catalog.ts'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { ScheduleRule } from '../policy/schedule.ts'
import { JobQueue } from './job-queue.ts'
import { createScheduler } from './scheduler.ts'

test('a run is ended when its window closes, and is not called a failure', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'regain-scheduler-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const lines: string[] = []
  // A moment before the window closes.
  const now = Date.parse('2026-01-10T05:59:59.950Z')
  const ambient: Ambient = {
    now: () => now,
    randomBytes: (size) => Buffer.alloc(size, 1),
    log: (level, message) => void lines.push(`${level}: ${message}`),
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
      async backup(_name, _destination, options) {
        await once(options.signal, 'abort')
        throw new RegainError('interrupted', 'The backup was interrupted.')
      },
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
  assert.equal(await scheduler.turn(), 50)
  await queue.idle()
  assert.deepEqual(lines, [
    'info: A backup begins.',
    'warning: The backup was ended with its window; it goes on when that opens again.',
    'ended',
  ])
})
