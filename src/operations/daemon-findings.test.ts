import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DaemonRow, FollowerRow } from '../catalog/status.ts'
import { judgeDaemon } from './daemon-findings.ts'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const DAEMON: DaemonRow = {
  pid: 7,
  version: '1',
  config: 'c',
  startedAt: NOW - 9e6,
  heartbeatAt: NOW - 3000,
  stoppedAt: null,
}
const FOLLOWER: FollowerRow = {
  service: 'shop',
  source: 'db',
  state: 'streaming',
  durable: '0/2',
  server: '0/3',
  lagBytes: 1,
  durableUntil: '2026-11-20T11:59:57Z',
  restarts: 0,
  error: null,
  retryAt: null,
  updatedAt: NOW,
}

const cases: [string, Parameters<typeof judgeDaemon>[0], string[]][] = [
  ['never started', { daemon: null, followers: [], followed: ['db'], now: NOW, config: 'c' }, ['warning daemon']],
  [
    'stopped',
    { daemon: { ...DAEMON, stoppedAt: NOW - 1 }, followers: [FOLLOWER], followed: ['db'], now: NOW, config: 'c' },
    ['warning daemon'],
  ],
  [
    'died',
    {
      daemon: { ...DAEMON, heartbeatAt: NOW - 61_000 },
      followers: [FOLLOWER],
      followed: ['db'],
      now: NOW,
      config: 'c',
    },
    ['warning daemon'],
  ],
  [
    'runs and follows',
    { daemon: DAEMON, followers: [FOLLOWER], followed: ['db'], now: NOW, config: 'c' },
    ['ok daemon', 'ok log'],
  ],
  [
    'runs, and is far behind',
    {
      daemon: DAEMON,
      followers: [{ ...FOLLOWER, durableUntil: '2026-11-20T11:50:00Z' }],
      followed: ['db'],
      now: NOW,
      config: 'c',
    },
    ['ok daemon', 'warning log'],
  ],
  [
    'of another configuration',
    { daemon: DAEMON, followers: [], followed: ['db'], now: NOW, config: 'd' },
    ['warning daemon'],
  ],
  ['runs, no log wanted', { daemon: DAEMON, followers: [], followed: [], now: NOW, config: 'c' }, ['ok daemon']],
  [
    'runs, follower unknown',
    { daemon: DAEMON, followers: [], followed: ['db'], now: NOW, config: 'c' },
    ['ok daemon', 'warning log'],
  ],
  [
    'runs, follower waits',
    {
      daemon: DAEMON,
      followers: [{ ...FOLLOWER, state: 'waiting', error: { code: 'source-unavailable', message: 'refused' } }],
      followed: ['db'],
      now: NOW,
      config: 'c',
    },
    ['ok daemon', 'warning log'],
  ],
]

for (const [name, facts, expected] of cases)
  test(`the daemon ${name}`, () => {
    const found = judgeDaemon(facts)
    assert.deepEqual(
      found.map(({ severity, code }) => `${severity} ${code}`),
      expected,
    )
  })
