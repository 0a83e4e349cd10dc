import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FollowerRow } from '../catalog/catalog.ts'
import { RegainError } from '../errors.ts'
import type { FollowerOptions } from '../sources/contract.ts'
import { restartDelayMs } from './delays.ts'
import { superviseFollower } from './follower.ts'

/** Plays one scripted run after the other on a clock of its own, and ends with the last. */
async function play(runs: ((options: FollowerOptions, tick: (ms: number) => void) => Promise<void>)[]) {
  const stop = new AbortController()
  const rows: FollowerRow[] = []
  const logged: string[] = []
  const delays: number[] = []
  const needs: string[] = []
  let clock = 0
  const ambient = {
    now: () => clock,
    randomBytes: (size: number) => Buffer.alloc(size, 0x7f),
    log: (level: string, message: string) => logged.push(`${level}: ${message}`),
  }
  const scripts = [...runs]
  await superviseFollower(
    { service: 'shop', source: 'db' },
    async (options) => {
      const script = scripts.shift()
      assert.ok(script, 'started more often than the script has runs')
      const isLast = scripts.length === 0
      await script(options, (ms) => {
        clock += ms
      }).finally(() => isLast && stop.abort())
    },
    {
      ambient,
      signal: stop.signal,
      save: (row) => rows.push(row),
      needsPoint: (reason) => needs.push(reason),
      delay: async (ms) => {
        delays.push(ms)
        clock += ms
      },
    },
  )
  return { rows, logged, delays, needs }
}

const STATUS = { durable: '0/3000000', server: '0/3000000', lagBytes: 0, durableUntil: '2026-01-10T02:00:00Z' }
const away = () => Promise.reject(new RegainError('source-unavailable', 'The server does not answer.'))

test('a follower that fails is started again ever later, up to a minute, and what it failed with is known', async () => {
  const { rows, delays, logged } = await play([...Array.from({ length: 9 }, () => away), async () => {}])
  assert.deepEqual(
    delays.map((ms) => Math.round(ms / 1000)),
    [1, 2, 4, 8, 16, 32, 60, 60, 60],
  )
  const waiting = rows.filter((row) => row.state === 'waiting')
  assert.deepEqual(waiting[0]?.error, { code: 'source-unavailable', message: 'The server does not answer.' })
  assert.equal(waiting.at(-1)?.restarts, 9)
  assert.equal(rows.at(-1)?.state, 'stopped')
  assert.equal(logged.filter((line) => line.startsWith('error:')).length, 9)
})

test('after it has streamed for a while, the next failure begins with the short delay again', async () => {
  const streams = (ms: number) => async (options: FollowerOptions, tick: (ms: number) => void) => {
    options.status(STATUS)
    tick(ms)
    await away()
  }
  const { delays } = await play([away, away, streams(1_000), streams(30_000), away, async () => {}])
  assert.deepEqual(
    delays.map((ms) => Math.round(ms / 1000)),
    [1, 2, 4, 1, 2],
  )
})

test('its standing is passed on, and kept when it stops or waits', async () => {
  const { rows } = await play([
    async (options) => {
      options.status(STATUS)
      await away()
    },
    async (options) => options.status({ ...STATUS, durable: '0/4000000' }),
  ])
  assert.deepEqual(
    rows.map((row) => [row.state, row.durable]),
    [
      ['connecting', null],
      ['streaming', '0/3000000'],
      ['waiting', '0/3000000'],
      ['connecting', '0/3000000'],
      ['streaming', '0/4000000'],
      ['stopped', '0/4000000'],
    ],
  )
})

test('a break in the log asks for a new point once, and again after another break', async () => {
  const lost = { ...STATUS, needsPoint: 'the slot was lost' }
  const { needs } = await play([
    async ({ status }) => {
      for (const each of [STATUS, lost, lost, STATUS, { ...lost, needsPoint: 'lost again' }]) status(each)
    },
  ])
  assert.deepEqual(needs, ['the slot was lost', 'lost again'])
})

test('a stream that ends by itself is a failure like others', async () => {
  const { rows, delays } = await play([async () => {}, async () => {}])
  assert.equal(delays.length, 1)
  assert.match(rows.find((row) => row.state === 'waiting')?.error?.message ?? '', /ended the stream/)
})

test('a bug in a driver does not end the daemon', async () => {
  const { rows } = await play([() => Promise.reject(new TypeError('x is not a function')), async () => {}])
  assert.equal(rows.find((row) => row.state === 'waiting')?.error?.code, 'internal')
})

test('an interrupted follower has ended cleanly; any other error while stopping is told', async () => {
  const clean = await play([() => Promise.reject(new RegainError('interrupted', 'The operation was interrupted.'))])
  assert.deepEqual(
    clean.logged,
    ['error: The log is not being followed: The operation was interrupted.', 'info: The follower has stopped.'].slice(
      1,
    ),
  )
  const dirty = await play([() => Promise.reject(new RegainError('storage-full', 'The disk is full.'))])
  assert.match(dirty.logged[0] ?? '', /^warning: The follower did not end cleanly: The disk is full\./)
})

test('delays double from one second to a minute, 20 % either way', () => {
  assert.equal(restartDelayMs(1, 0), 800)
  assert.equal(restartDelayMs(1, 0.5), 1000)
  assert.equal(restartDelayMs(3, 0.5), 4000)
  assert.equal(restartDelayMs(1000, 0.5), 60_000)
  assert.ok(restartDelayMs(1000, 0.999_999) <= 72_000)
})
