import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RegainError } from '../errors.ts'
import type { KeptLogLimit } from '../policy/kept-log.ts'
import type { KeptLog, LogGuard } from '../sources/contract.ts'
import { superviseGuard } from './guard.ts'

const GB = 1e9
const kept = (gigabytes: number, isFollowed = true): KeptLog => ({
  server: 'db:5432',
  isFollowed,
  keptBytes: gigabytes * GB,
  ownLimitBytes: null,
  dataBytes: null,
  disk: null,
})

/** Plays one scripted look after the other, and ends with the last. */
async function play(looks: (KeptLog[] | Error)[], limit: KeptLogLimit) {
  const stop = new AbortController()
  const logged: string[] = []
  const givenUp: number[] = []
  const left = [...looks]
  const guard: LogGuard = {
    async look() {
      const next = left.shift()
      if (left.length === 0) stop.abort()
      if (next instanceof Error) throw next
      return next ?? []
    },
    async giveUp({ keptBytes }) {
      givenUp.push(keptBytes / GB)
    },
  }
  const ambient = {
    now: () => 0,
    randomBytes: (size: number) => Buffer.alloc(size),
    log: (level: string, message: string) => logged.push(`${level}: ${message}`),
  }
  const options = { ambient, signal: stop.signal, limit, delay: async () => {} }
  await superviseGuard({ service: 'shop', source: 'db' }, async () => guard, options)
  return { logged, givenUp }
}

test('much that is kept is told once, and let go of when it is too much, loudly', async () => {
  const { logged, givenUp } = await play([[kept(1)], [kept(11)], [kept(15)], [kept(20)], [], [kept(0.1)]], 20 * GB)
  assert.deepEqual(givenUp, [20])
  assert.deepEqual(
    logged.map((line) => line.slice(0, 40)),
    [
      'warning: The server keeps much log that ',
      'error: THE SERVER IS TOLD TO FORGET LOG ',
      'error: The replication slot was dropped.',
      'info: The server keeps little log for Re',
    ],
  )
})

test('what a server keeps that is not followed goes without an alarm', async () => {
  const { logged, givenUp } = await play([[kept(20, false)], []], 20 * GB)
  assert.deepEqual(givenUp, [20])
  assert.deepEqual(logged, [
    'warning: A replication slot on a server that is not followed was dropped: 20.0 GB are kept, of 20.0 GB that slotLimit allows.',
  ])
})

test('with slotLimit: never nothing is let go of', async () => {
  const { logged, givenUp } = await play([[kept(1)], [kept(1000)], [kept(2000)]], 'never')
  assert.deepEqual([givenUp, logged.length], [[], 1])
})

test('a server that is away is the follower’s to tell; anything else is told once', async () => {
  const away = new RegainError('source-unavailable', 'Nothing answers there.')
  const denied = new RegainError('source-unsuitable', 'This role may not drop it.')
  const { logged } = await play([away, denied, denied, [], denied, []], 'auto')
  assert.deepEqual(
    logged,
    Array(2).fill('warning: What the server keeps for the log cannot be watched: This role may not drop it.'),
  )
})
