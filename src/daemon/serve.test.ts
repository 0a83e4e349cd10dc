import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, test } from 'node:test'
import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import { recordBackup, recordPrune } from '../catalog/record.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import { type DaemonPlan, serve } from './serve.ts'
import { type DaemonWork, nameOf } from './work.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-daemon-'))
after(() => rmSync(scratch, { recursive: true, force: true }))
let directories = 0
/** Of every daemon of the test that runs: one that fails must not keep the process alive. */
const stops: AbortController[] = []
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort()
})

/**
 * A daemon in this process whose work is scripted here: the loop, its state file and its signals are real. `happened`
 * emits each event by name; `until` waits for one that may have come already.
 */
function daemon(overrides: Partial<DaemonPlan> = {}, state = join(scratch, `state-${directories++}`)) {
  const stop = new AbortController()
  stops.push(stop)
  const events = new EventEmitter()
  const seen: string[] = []
  const happened = (event: string) => {
    seen.push(event)
    events.emit('event')
  }
  const until = async (event: string, times = 1) => {
    while (seen.filter((other) => other === event).length < times) await once(events, 'event')
  }
  const logged: string[] = []
  let aheadMs = 0
  const ambient: Ambient = {
    now: () => Date.now() + aheadMs,
    randomBytes: (size) => Buffer.alloc(size, 1),
    log: (level, message, fields) => {
      logged.push(`${level}: ${message}`)
      happened(message)
      if (fields?.point !== undefined) happened(`point of kind ${fields.kind}`)
    },
  }
  const open = (): Catalog => openCatalog({ directory: state, ambient, pid: process.pid, isDaemon: true })
  const work: DaemonWork = {
    async backup(name, destination, { kind, signal }) {
      const catalog = open()
      try {
        const run = { ...name, destination, kind, origin: 'schedule' } as const
        return await recordBackup(catalog, run, ambient, async () => {
          happened(`backup ${nameOf(name)} ${kind}`)
          if (signal.aborted) throw new RegainError('interrupted', 'The operation was interrupted.')
          return { point: point(name.service, name.source), trouble: null }
        })
      } finally {
        catalog.close()
      }
    },
    async follow(name, { signal, status }) {
      status({ durable: '0/1', server: '0/2', lagBytes: 1, durableUntil: '2026-01-10T02:00:00Z' })
      happened(`following ${nameOf(name)}`)
      if (!signal.aborted) await once(signal, 'abort')
      happened(`tail shipped ${nameOf(name)}`)
    },
    guard: async () => null,
    async prune(service, destination) {
      const catalog = open()
      try {
        return await recordPrune(catalog, { service, destination, origin: 'schedule' }, ambient, async () => {
          happened(`prune ${service}@${destination}`)
          return { ...NOTHING_REMOVED, expired: ['a', 'b'], bytesFreed: 7 }
        })
      } finally {
        catalog.close()
      }
    },
    points: async () => [],
  }
  const settings = { config: '/etc/regain/regain.yaml', state, rules: [], prunes: [], followers: [] }
  const plan: DaemonPlan = { ...settings, work, ...overrides }
  let current: () => Promise<DaemonPlan> = async () => plan
  const notified: string[] = []
  const ended = serve({
    version: '0.1.0',
    processId: process.pid,
    ambient,
    stop: stop.signal,
    onReload(listener) {
      events.on('reload', listener)
      return () => events.off('reload', listener)
    },
    plan: () => current(),
    notify: (what) => notified.push(what),
    stopLimitMs: 200,
  })
  const reload = (next: () => Promise<DaemonPlan>) => {
    current = next
    events.emit('reload')
  }
  /** The clock is set on, and the daemon looks at it. */
  const pass = (ms: number) => {
    aheadMs += ms
    events.emit('reload')
  }
  return { pass, stop, ended, until, seen, logged, notified, open, work, plan, state, reload, happened }
}

const quiet: Ambient = { now: Date.now, randomBytes: (size) => Buffer.alloc(size, 1), log: () => {} }

const NOTHING_REMOVED = {
  packs: { removed: 0, repacked: 0 },
  logSegments: 0,
  bytesFreed: 0,
  sessions: 0,
  pins: 0,
  bytesLater: 0,
  waits: [],
}

function point(service: string, source: string): Point {
  const at = new Date().toISOString()
  return {
    id: 'ab'.repeat(16),
    service,
    source,
    sourceType: 'postgres',
    kind: 'full',
    startedAt: at,
    committedAt: at,
    complete: true,
    missed: [],
    missedCount: 0,
    root: '/',
    positions: {},
    entries: 1,
    bytes: { source: 1, read: 1, new: 1, stored: 1 },
    listing: 'cd'.repeat(32),
    tool: 'regain 0.1.0',
  }
}

const YEARLY = {
  service: 'shop',
  source: 'db',
  destination: 'hot',
  kind: 'full',
  cron: '0 0 1 1 *',
  timeZone: 'UTC',
  window: null,
  jitterMs: 0,
} as const
const INTO = { destinations: ['local'], limit: 'auto' as const }
const FOLLOWER = { service: 'shop', source: 'db', ...INTO, fingerprint: '1' }
const RELOADED = 'The configuration was read again and is in effect.'
const REFUSED = 'THE NEW CONFIGURATION WAS REFUSED, THE OLD ONE STAYS IN EFFECT: '

test('starts followers and the first backup, lets others see both, and stops cleanly', async () => {
  const { stop, ended, until, open, seen, notified } = daemon({ rules: [YEARLY], followers: [FOLLOWER] })
  await until('The backup is complete.')
  await until('following shop/db')
  const catalog = open()
  assert.equal(catalog.daemon()?.pid, process.pid)
  assert.equal(catalog.daemon()?.stoppedAt, null)
  assert.equal(catalog.followers()[0]?.state, 'streaming')
  assert.deepEqual(
    catalog.runs().map((run) => [run.outcome, run.origin]),
    [['complete', 'schedule']],
  )
  stop.abort()
  await ended
  assert.equal(catalog.followers()[0]?.state, 'stopped')
  assert.notEqual(catalog.daemon()?.stoppedAt, null)
  catalog.close()
  assert.equal(seen.filter((event) => event === 'backup shop/db full').length, 1)
  assert.deepEqual([seen.includes('tail shipped shop/db'), notified[0], notified.at(-1)], [true, 'ready', 'stopping'])
})

test('a backup whose source was left frozen is an error in the log, and is not taken again', async () => {
  const trouble = new RegainError('source-not-resumed', 'THE AFTER COMMAND ended with status 1.')
  const taken = { point: point('shop', 'db'), trouble }
  const work = { ...daemonWorkOf(), backup: async () => taken }
  const { stop, ended, until, logged } = daemon({ rules: [YEARLY], work })
  await until(trouble.message)
  stop.abort()
  await ended
  assert.ok(logged.includes(`error: ${trouble.message}`))
  assert.ok(logged.includes('info: The backup is complete.'))
})

test('does not start a second one with the same state', async () => {
  const first = daemon({ followers: [FOLLOWER] })
  await first.until('following shop/db')
  const second = daemon({}, first.state)
  await assert.rejects(
    second.ended,
    (error) => isRegainError(error, 'precondition-failed') && error.message.includes(`process ${process.pid}`),
  )
  first.stop.abort()
  await first.ended
})

test('a lost state file does not mean a backup that is owed: points are learned from the repository', async () => {
  const { stop, ended, until, seen, open } = daemon({
    rules: [YEARLY],
    work: { ...daemonWorkOf(), points: async () => [point('shop', 'db')] },
  })
  await until('Points were learned from the repository.')
  stop.abort()
  await ended
  assert.deepEqual(
    seen.filter((event) => event.startsWith('backup')),
    [],
  )
  const catalog = open()
  assert.equal(catalog.runs()[0]?.origin, 'repository')
  catalog.close()
})

test('while the repository cannot be asked, no backup is started blindly', async () => {
  const denied = () => Promise.reject(new RegainError('storage-unavailable', 'The destination is away.'))
  const told = 'No backups are started, because the repository cannot be asked: The destination is away.'
  const { stop, ended, until, seen } = daemon({ rules: [YEARLY], work: { ...daemonWorkOf(), points: denied } })
  await until(told)
  stop.abort()
  await ended
  assert.deepEqual(
    seen.filter((event) => event.startsWith('backup')),
    [],
  )
})

test('a break in the log brings a new point at once, also where there is no schedule', async () => {
  const running = daemon({ rules: [], followers: [FOLLOWER] })
  const { stop, ended, until, plan, reload, work } = running
  await until('following shop/db')
  const broken: DaemonWork = {
    ...work,
    async follow(_name, { signal, status }) {
      const standing = { durable: '0/1', server: '0/2', lagBytes: 1, durableUntil: '2026-01-10T02:00:00Z' }
      status({ ...standing, needsPoint: 'the slot was lost' })
      if (!signal.aborted) await once(signal, 'abort')
    },
  }
  reload(async () => ({ ...plan, work: broken, followers: [{ ...FOLLOWER, fingerprint: '2' }] }))
  await until('A new point is needed: the slot was lost')
  await until('backup shop/db incremental')
  await until('The backup is complete.')
  // Asked for changes, the source read everything, and the log says so.
  await until('point of kind full')
  stop.abort()
  await ended
})

test('a reload keeps unchanged followers, restarts changed ones, and ends those that are gone', async () => {
  const kept = { service: 'shop', source: 'kept', ...INTO, fingerprint: '1' }
  const changed = { service: 'shop', source: 'changed', ...INTO, fingerprint: '1' }
  const gone = { service: 'shop', source: 'gone', ...INTO, fingerprint: '1' }
  const running = daemon({ followers: [kept, changed, gone] })
  const { stop, ended, until, seen, plan, reload } = running
  for (const { source } of [kept, changed, gone]) await until(`following shop/${source}`)

  reload(async () => ({ ...plan, followers: [kept, { ...changed, fingerprint: '2' }] }))
  await until(RELOADED)
  await until('following shop/changed', 2)
  await until('tail shipped shop/gone')
  assert.ok(seen.indexOf('tail shipped shop/changed') < seen.lastIndexOf('following shop/changed'))
  assert.equal(seen.filter((event) => event === 'following shop/kept').length, 1)
  assert.ok(!seen.includes('tail shipped shop/kept'))
  stop.abort()
  await ended
  assert.ok(seen.includes('tail shipped shop/kept'))
})

test('a broken configuration is refused loudly and the old one stays in effect', async () => {
  const { stop, ended, until, seen, logged, plan, reload } = daemon({ followers: [FOLLOWER] })
  await until('following shop/db')
  reload(() => Promise.reject(new RegainError('config-invalid', 'regain.yaml:3:5: no such key.')))
  await until(`${REFUSED}regain.yaml:3:5: no such key.`)
  assert.ok(logged.some((line) => line.startsWith('error: THE NEW CONFIGURATION WAS REFUSED')))
  reload(async () => ({ ...plan, state: '/elsewhere' }))
  await until(`${REFUSED}The state directory cannot change while regain serve runs.`)
  assert.ok(!seen.includes('tail shipped shop/db'))
  reload(async () => plan)
  await until(RELOADED)
  stop.abort()
  await ended
})

test('a state file deleted or damaged under the daemon is replaced, and it goes on', async () => {
  const { stop, ended, until, open, state, plan, reload } = daemon({ followers: [FOLLOWER] })
  await until('following shop/db')
  for (const suffix of ['', '-wal', '-shm']) rmSync(join(state, `state.db${suffix}`), { force: true })
  reload(async () => ({ ...plan, followers: [{ ...FOLLOWER, fingerprint: '2' }] }))
  await until('The state file was opened again. No backup is affected.')
  await until('following shop/db', 2)
  const catalog = open()
  assert.equal(catalog.followers()[0]?.state, 'streaming')
  catalog.close()

  for (const suffix of ['-wal', '-shm']) rmSync(join(state, `state.db${suffix}`), { force: true })
  rmSync(join(state, 'state.db'))
  writeFileSync(join(state, 'state.db'), 'noise'.repeat(2000))
  reload(async () => ({ ...plan, followers: [{ ...FOLLOWER, fingerprint: '3' }] }))
  await until('The state file was opened again. No backup is affected.', 2)
  stop.abort()
  await ended
})

test('a backup that fails before anything can be noted is not begun again at once', async () => {
  const { stop, ended, until, seen } = daemon({ rules: [YEARLY], work: daemonWorkOf() })
  const failed = 'The backup did not succeed: No backup was expected.'
  await until(failed)
  // Each event wakes the loop; were the job begun again at once, these turns would do it.
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
  stop.abort()
  await ended
  assert.equal(seen.filter((event) => event === failed).length, 1)
})

test('what does not end in time is left, and told; the state file says that the daemon did not stop in order', async () => {
  const begun = Promise.withResolvers<void>()
  const work: DaemonWork = {
    ...daemonWorkOf(),
    backup: () => {
      begun.resolve()
      return new Promise(() => {})
    },
  }
  const { stop, ended, open } = daemon({ rules: [YEARLY], work })
  await begun.promise
  stop.abort()
  await assert.rejects(
    ended,
    (error) => isRegainError(error, 'precondition-failed') && /did not end within/.test(error.message),
  )
  const catalog = open()
  assert.equal(catalog.daemon()?.stoppedAt, null)
  catalog.close()
})

/** Work that only says what it was asked. */
function daemonWorkOf(): DaemonWork {
  return {
    backup: () => Promise.reject(new RegainError('internal', 'No backup was expected.')),
    follow: () => Promise.reject(new RegainError('internal', 'No follower was expected.')),
    guard: async () => null,
    prune: () => Promise.reject(new RegainError('internal', 'No prune was expected.')),
    points: async () => [],
  }
}

test('a prune that is owed runs after the backups, once, and is in the book', async () => {
  const rule = { service: 'shop', source: 'db', destination: 'hot', kind: 'full', window: null, jitterMs: 0 } as const
  const yearly = { cron: '0 0 1 1 *', timeZone: 'UTC' }
  const prunes = ['hot', 'offsite'].map((destination) => ({ service: 'shop', destination, ...yearly }))
  const { stop, ended, until, seen, open } = daemon({ rules: [{ ...rule, ...yearly }], prunes })
  await until('What retention does not keep is removed.', 2)
  stop.abort()
  await ended
  assert.deepEqual(
    seen.filter((event) => /^(backup|prune) /.test(event)),
    ['backup shop/db full', 'prune shop@hot', 'prune shop@offsite'],
  )
  const catalog = open()
  const runs = catalog.runs({ operation: 'prune' })
  assert.deepEqual(
    runs.map(({ destination, outcome, removed }) => ({ destination, outcome, removed })),
    ['offsite', 'hot'].map((destination) => ({ destination, outcome: 'complete', removed: { points: 2, bytes: 7 } })),
  )
  catalog.close()
})

test('a prune that was cut short is begun again; one that fails is said and does not stop the daemon', async () => {
  const state = join(scratch, `state-${directories++}`)
  const before = openCatalog({ directory: state, ambient: quiet, pid: process.pid })
  before.beginRun({ operation: 'prune', service: 'shop', source: '', destination: 'hot', origin: 'schedule' })
  before.close()
  const yearly = { cron: '0 0 1 1 *', timeZone: 'UTC' }
  const prunes = ['hot', 'offsite'].map((destination) => ({ service: 'shop', destination, ...yearly }))
  const made = daemon({ prunes }, state)
  made.work.prune = async (_, destination) => {
    if (destination === 'offsite') throw new RegainError('storage-unavailable', 'The host is away.')
    throw new RegainError('storage-unavailable', 'The disk is away.')
  }
  // That both are owed was looked at before either began.
  await made.until('The prune did not succeed: The host is away.')
  made.pass(120_000)
  await made.until('The prune did not succeed: The disk is away.')
  const catalog = made.open()
  assert.deepEqual(
    catalog.runs({ operation: 'prune' }).map(({ outcome }) => outcome),
    ['interrupted'],
  )
  catalog.close()
  made.stop.abort()
  await made.ended
})
