import assert from 'node:assert/strict'
import { test } from 'node:test'
import { daemonLog } from './log.ts'

const NOW = Date.parse('2026-01-10T02:00:00Z')

test('lines for people: moment, level, message, fields; nothing in a message can forge a line', () => {
  const lines: string[] = []
  const log = daemonLog(
    (line) => lines.push(line),
    false,
    () => NOW,
  )
  log('info', 'A backup begins.', { source: 'shop/db', reason: 'first backup', retryMs: 5 })
  log('error', 'broken\n2026-01-01 info all is well\u001b[2K')
  log('debug', 'not for people')
  assert.deepEqual(lines, [
    '2026-01-10T02:00:00.000Z info    A backup begins. source=shop/db reason="first backup" retryMs=5',
    '2026-01-10T02:00:00.000Z error   broken 2026-01-01 info all is well\\x1b[2K',
  ])
})

test('lines for programs are JSON, one object each', () => {
  const lines: string[] = []
  daemonLog(
    (line) => lines.push(line),
    true,
    () => NOW,
  )('warning', 'two\nlines', { code: 'x' })
  assert.equal(lines.length, 1)
  assert.deepEqual(JSON.parse(lines[0] ?? ''), {
    time: '2026-01-10T02:00:00.000Z',
    level: 'warning',
    message: 'two\nlines',
    code: 'x',
  })
})
