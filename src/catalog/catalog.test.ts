import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { isRegainError, RegainError } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import { type Catalog, lockDaemon, openCatalog } from './catalog.ts'
import { recordBackup, type TakenPoint } from './record.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-catalog-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

let clock = Date.parse('2026-01-10T02:00:00Z')
const logged: string[] = []
const ambient: Ambient = {
  now: () => clock,
  randomBytes: (size) => Buffer.alloc(size),
  log: (_level, message) => logged.push(message),
}

let directories = 0
function freshDirectory(): string {
  return join(scratch, `state-${directories++}`)
}

function open(directory: string): Catalog {
  return openCatalog({ directory, ambient, pid: process.pid })
}

function taken(id: string, trouble: RegainError | null = null): TakenPoint {
  return { point: point(id), trouble }
}

function point(id: string): Point {
  return {
    id,
    service: 'shop',
    source: 'db',
    sourceType: 'postgres',
    kind: 'incremental',
    startedAt: '2026-01-10T02:00:00.000Z',
    committedAt: '2026-01-10T02:05:00.000Z',
    complete: true,
    missed: [],
    missedCount: 0,
    root: '/var/lib/postgresql',
    positions: {},
    entries: 12,
    bytes: { source: 1000, read: 100, new: 10, stored: 5 },
    listing: 'ab'.repeat(32),
    tool: 'regain 0.1.0',
  }
}

/** Another process that takes a lock and says so, until its standard input ends or it is killed. */
async function otherProcess(directory: string, take: string) {
  const program = `
    import { lockDaemon, openCatalog } from ${JSON.stringify(join(import.meta.dirname, 'catalog.ts'))}
    const ambient = { now: () => ${clock}, randomBytes: (n) => Buffer.alloc(n), log() {} }
    const directory = ${JSON.stringify(directory)}
    const pid = process.pid
    ${take}
    console.log('taken')
    process.stdin.resume()
    process.stdin.on('end', () => process.exit(0))
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return child
}

test('the state directory is private, also one that was wider', () => {
  const directory = freshDirectory()
  mkdirSync(directory, { mode: 0o755 })
  chmodSync(directory, 0o755)
  open(directory).close()
  assert.equal(statSync(directory).mode & 0o777, 0o700)
})

test('runs, followers and the daemon are remembered across openings', () => {
  const directory = freshDirectory()
  const first = open(directory)
  const id = first.beginRun({ operation: 'backup', service: 'shop', source: 'db', kind: 'full', origin: 'schedule' })
  clock += 60_000
  first.endRun(id, { outcome: 'partial', point: 'p1', bytes: point('p1').bytes, files: 12, missed: 3 })
  const failed = first.beginRun({ operation: 'restore', service: 'shop', source: 'db', origin: 'command' })
  first.endRun(failed, { outcome: 'failed', error: { code: 'storage-full', message: 'The disk is full.' } })
  const follower = {
    service: 'shop',
    source: 'db',
    state: 'streaming',
    durable: '0/3000000',
    server: '0/3000100',
    lagBytes: 256,
    durableUntil: '2026-01-10T02:01:00.000Z',
    restarts: 1,
    error: null,
    retryAt: null,
    updatedAt: clock,
  } as const
  first.saveFollower({ ...follower, state: 'connecting', durable: null, server: null })
  first.saveFollower(follower)
  const daemon = {
    pid: 1,
    version: '0.1.0',
    config: '/etc/regain/regain.yaml',
    startedAt: 1,
    heartbeatAt: 2,
    stoppedAt: null,
  }
  first.saveDaemon({ ...daemon, heartbeatAt: 1 })
  first.saveDaemon(daemon)
  first.close()

  const second = open(directory)
  assert.equal(second.notice, null)
  const [restore, backup] = second.runs()
  assert.deepEqual(
    [backup?.outcome, backup?.point, backup?.missed, backup?.bytes?.stored, backup?.endedAt],
    ['partial', 'p1', 3, 5, clock],
  )
  assert.deepEqual(restore?.error, { code: 'storage-full', message: 'The disk is full.' })
  assert.deepEqual(second.runs({ operation: 'backup' }).length, 1)
  assert.deepEqual(second.runs({ service: 'other' }), [])
  assert.deepEqual(second.followers(), [follower])
  assert.deepEqual(second.daemon(), daemon)
  second.close()
})

test('processes may write at once: they wait for each other and lose nothing', async () => {
  const directory = freshDirectory()
  open(directory).close()
  const writes = `const catalog = openCatalog({ directory, ambient, pid })
    for (let i = 0; i < 300; i++) catalog.beginRun({ operation: 'verify', service: 's', source: 'a', origin: 'command' })`
  const children = await Promise.all([otherProcess(directory, writes), otherProcess(directory, writes)])
  for (const child of children) child.stdin.end()
  await Promise.all(children.map((child) => child.exitCode ?? once(child, 'exit')))
  const catalog = open(directory)
  assert.equal(catalog.runs({ limit: 1000 }).length, 600)
  catalog.close()
})

test('points learned from a repository are added once, and beside the run that made them', async () => {
  const catalog = open(freshDirectory())
  await recordBackup(catalog, { service: 'shop', source: 'db', origin: 'command' }, ambient, async () => taken('p1'))
  const learned = {
    service: 'shop',
    source: 'db',
    kind: 'full',
    startedAt: clock - 5000,
    committedAt: clock,
    missed: 0,
    bytes: point('p0').bytes,
    files: 3,
  } as const
  const points = [
    { ...learned, point: 'p0' },
    { ...learned, point: 'p1' },
  ]
  assert.equal(catalog.learnPoints(points), 1)
  assert.equal(catalog.learnPoints(points), 0)
  assert.deepEqual(
    catalog.runs().map((run) => [run.point, run.origin]),
    [
      ['p1', 'command'],
      ['p0', 'repository'],
    ],
  )
  catalog.close()
})

test('a point that another process learned before its own run ended is one run', () => {
  const catalog = open(freshDirectory())
  const id = catalog.beginRun({ operation: 'backup', service: 'shop', source: 'db', origin: 'command' })
  const common = { service: 'shop', source: 'db', kind: 'full', missed: 0, bytes: point('p').bytes, files: 1 } as const
  catalog.learnPoints([{ ...common, point: 'p', startedAt: clock, committedAt: clock }])
  catalog.endRun(id, { outcome: 'complete', point: 'p' })
  assert.deepEqual(
    catalog.runs().map((run) => run.id),
    [id],
  )
  catalog.close()
})

test('losing the state file loses no data: the next opening makes a new one', () => {
  const directory = freshDirectory()
  const before = open(directory)
  before.beginRun({ operation: 'backup', service: 'shop', source: 'db', origin: 'command' })
  before.close()
  for (const name of readdirSync(directory)) rmSync(join(directory, name))
  const catalog = open(directory)
  assert.deepEqual(catalog.runs(), [])
  assert.equal(catalog.notice, null)
  catalog.close()
})

const DAMAGES: [name: string, damage: (path: string) => void][] = [
  ['not a database', (path) => writeFileSync(path, 'this is no database, it only looks like one. '.repeat(100))],
  ['cut short', (path) => truncateSync(path, 5000)],
  [
    'a page of noise',
    (path) => {
      const noise = Buffer.alloc(statSync(path).size - 1024, 0xa5)
      const database = new DatabaseSync(path)
      database.exec('pragma wal_checkpoint(truncate)')
      database.close()
      writeFileSync(path, noise, { flag: 'r+', flush: true })
    },
  ],
  [
    'noise in the last page alone',
    (path) => {
      const bytes = readFileSync(path)
      bytes.fill(0xa5, bytes.length - 4096)
      writeFileSync(path, bytes)
    },
  ],
  [
    'of a newer version',
    (path) => {
      const database = new DatabaseSync(path)
      database.exec('pragma user_version = 9999')
      database.close()
    },
  ],
]

for (const [name, damage] of DAMAGES) {
  test(`an unusable state file is put aside and replaced: ${name}`, () => {
    const directory = freshDirectory()
    const before = open(directory)
    before.beginRun({ operation: 'backup', service: 'shop', source: 'db', origin: 'command' })
    before.close()
    damage(join(directory, 'state.db'))

    const catalog = open(directory)
    assert.match(catalog.notice ?? '', /could not be used .*state\.db\.unusable-20260110T\d{6}Z.*No backup is affected/)
    assert.deepEqual(catalog.runs(), [])
    catalog.close()
    assert.equal(readdirSync(directory).filter((file) => /unusable-\d+T\d+Z$/.test(file)).length, 1)

    const again = open(directory)
    assert.equal(again.notice, null)
    again.close()
  })
}

test('a damaged state file under a running daemon is left to it', async () => {
  const directory = freshDirectory()
  open(directory).close()
  const child = await otherProcess(directory, 'lockDaemon({ directory, ambient, pid })')
  writeFileSync(join(directory, 'state.db'), 'noise'.repeat(1000))
  assert.throws(
    () => open(directory),
    (error) => isRegainError(error, 'precondition-failed') && error.hint.includes(`${child.pid}`),
  )
  child.stdin.end()
  await once(child, 'exit')
  const catalog = open(directory)
  assert.ok(catalog.notice)
  catalog.close()
})

test('one daemon at a time: the second is told the process of the first, and a killed one leaves nothing behind', async () => {
  const directory = freshDirectory()
  const child = await otherProcess(directory, 'lockDaemon({ directory, ambient, pid })')
  assert.throws(
    () => lockDaemon({ directory, ambient, pid: process.pid }),
    (error) => isRegainError(error, 'precondition-failed') && error.message.includes(`process ${child.pid}`),
  )
  child.kill('SIGKILL')
  await once(child, 'exit')
  const lock = lockDaemon({ directory, ambient, pid: process.pid })
  lock.release()
  lock.release()
  lockDaemon({ directory, ambient, pid: process.pid }).release()
})

test('one backup of a source at a time; a run whose process was killed is called interrupted', async () => {
  const directory = freshDirectory()
  const catalog = open(directory)
  const child = await otherProcess(
    directory,
    `const catalog = openCatalog({ directory, ambient, pid })
     catalog.lockSource('shop', 'db', 'regain backup, shop/db')
     catalog.beginRun({ operation: 'backup', service: 'shop', source: 'db', origin: 'command' })`,
  )
  const backup = () =>
    recordBackup(catalog, { service: 'shop', source: 'db', origin: 'command' }, ambient, async () => taken('x'))
  await assert.rejects(
    backup,
    (error) =>
      isRegainError(error, 'precondition-failed') &&
      error.message.includes(`regain backup, shop/db, process ${child.pid}`),
  )
  assert.equal(catalog.tryLockSource('shop', 'db', 'test'), null)
  catalog.tryLockSource('shop', 'uploads', 'test')?.release()
  assert.deepEqual(
    catalog.runs().map((run) => run.outcome),
    ['running'],
  )

  child.kill('SIGKILL')
  await once(child, 'exit')
  await backup()
  assert.deepEqual(
    catalog
      .runs()
      .map((run) => run.outcome)
      .sort(),
    ['complete', 'interrupted'],
  )
  catalog.close()
})

test('a failed backup is booked with its code, and its lock is free again', async () => {
  const catalog = open(freshDirectory())
  const run = { service: 'shop', source: 'db', origin: 'schedule' } as const
  const boom = () => recordBackup(catalog, run, ambient, () => Promise.reject(new TypeError('boom')))
  await assert.rejects(boom, TypeError)
  await assert.rejects(boom, TypeError)
  const [last] = catalog.runs()
  assert.deepEqual([last?.outcome, last?.error], ['failed', { code: 'internal', message: 'boom' }])
  catalog.close()
})

test('a point that came with trouble is booked as the point it is, so that no second one is taken for it', async () => {
  const catalog = open(freshDirectory())
  const trouble = new RegainError('source-not-resumed', 'THE AFTER COMMAND ended with status 1.')
  const run = { service: 'shop', source: 'db', origin: 'schedule' } as const
  assert.equal((await recordBackup(catalog, run, ambient, async () => taken('p3', trouble))).trouble, trouble)
  const [last] = catalog.runs()
  assert.deepEqual(
    [last?.outcome, last?.point, last?.error],
    ['complete', 'p3', { code: 'source-not-resumed', message: trouble.message }],
  )
  catalog.close()
})

test('a backup goes on when the book cannot be kept', async () => {
  const directory = freshDirectory()
  const catalog = open(directory)
  const busy = new DatabaseSync(join(directory, 'state.db'))
  const made = await recordBackup(catalog, { service: 'shop', source: 'db', origin: 'command' }, ambient, async () => {
    // From here on the file is gone from under the catalog's feet: its table does not exist any more.
    busy.exec('drop table runs')
    return taken('p9')
  })
  assert.match(logged.at(-1) ?? '', /could not be noted in the state file/)
  assert.equal(made.point.id, 'p9')
  busy.close()
  catalog.close()
})
