import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, rmSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadConfiguration } from '../../src/config/load.ts'
import { planOf } from '../../src/daemon/operations.ts'
import { isRegainError } from '../../src/errors.ts'
import { drivers } from '../../src/main.ts'
import type { Point } from '../../src/model.ts'
import { backup } from '../../src/operations/backup.ts'
import type { Application } from '../../src/operations/context.ts'
import { hold } from '../../src/operations/hold.ts'
import { listPoints } from '../../src/operations/points.ts'
import { type PruneOutcome, prune } from '../../src/operations/prune.ts'
import { initRepositories } from '../../src/operations/repository.ts'
import { restore } from '../../src/operations/restore.ts'
import { planRestore } from '../../src/operations/restore-plan.ts'
import { verify } from '../../src/operations/verify.ts'
import { LAUNCHER } from '../support/command.ts'
import { describeTree, diffTrees } from '../support/describe-tree.ts'
import { follow } from '../support/following.ts'
import { startPostgres, testBinaries, testPostgres } from '../support/postgres.ts'
import { temporaryFolder } from '../support/repository.ts'

/** Months of backups by a clock of the test's own, pruned by the rules: what is kept comes back exactly, and space is freed. */

const DAY_MS = 86_400_000

interface Place {
  application: Application
  home: string
  /** Moves the clock that the application sees. */
  setClock(ms: number): void
  take(target: string, label?: string): Promise<Point>
  prune(dryRun?: boolean): Promise<PruneOutcome>
  storedBytes(): number
}

async function place(t: TestContext, services: string): Promise<Place> {
  // In memory where there is plenty: what a disk syncs tells nothing here.
  const folder = temporaryFolder()
  t.after(folder.remove)
  const home = folder.path
  const path = join(home, 'regain.yaml')
  await writeFile(
    path,
    `version: 1
state: state
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
${services}`,
  )
  const config = await loadConfiguration({ path, environment: {} })
  let clockMs = Date.UTC(2026, 0, 1)
  // Goes on by itself as well: what has an order has different times.
  const ambient = { now: () => ++clockMs, randomBytes, log: () => {} }
  const rest = { version: 'test', environment: {}, launcher: LAUNCHER, processId: process.pid, drivers }
  const application: Application = { ...rest, ambient, config }
  const reporting = reportingOf(t)
  await drivers.createKey(config.keys.main!, ambient)
  await initRepositories(application, undefined)
  return {
    application,
    home,
    setClock(ms) {
      clockMs = ms
    },
    async take(target, label) {
      const [outcome] = await backup(
        application,
        { target, kind: 'incremental', ...(label ? { label } : {}) },
        reporting,
        () => {},
      )
      return outcome?.point ?? assert.fail(outcome?.error?.message)
    },
    async prune(dryRun = false) {
      const [outcome] = await prune(application, { dryRun }, reporting, () => {})
      assert.equal(outcome?.error ?? null, null)
      return outcome!
    },
    storedBytes: () => sizeOf(join(home, 'backups')),
  }
}

const reportingOf = (t: TestContext) => ({ signal: t.signal, progress: () => {}, warn: () => {} })

function sizeOf(folder: string): number {
  // Without the room that a store sets aside for its removal.
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== '+reserve',
  )
  return files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0)
}

async function assertSound(t: TestContext, application: Application): Promise<void> {
  const [outcome] = await verify(application, { target: 'shop', readData: true }, reportingOf(t), () => {})
  assert.deepEqual(outcome?.problems, [])
}

async function hurtPoints(t: TestContext, application: Application): Promise<string[]> {
  const [outcome] = await verify(application, { target: 'shop', readData: false }, reportingOf(t), () => {})
  return outcome!.problems.flatMap(({ hurts }) => hurts.map(({ point }) => point)).sort()
}

test('three months of files: the rules decide, what they keep comes back, and the rest of the space is free', async (t) => {
  const { application, home, setClock, take, prune, storedBytes } = await place(
    t,
    `  shop:
    sources: { files: { type: files, paths: [data] } }
    retention: { daily: 3, weekly: 2, monthly: 3, labels: [release] }
`,
  )
  const data = join(home, 'data')
  await mkdir(data)
  await writeFile(join(data, 'always'), randomBytes(500_000))
  const trees = new Map<string, string[]>()
  const begin = Date.UTC(2026, 0, 31, 2)
  const pruned: number[] = []
  let held = ''
  let everStored = 0
  for (let day = 0; day < 96; day += 3) {
    setClock(begin + day * DAY_MS)
    // Each day has its own content beside what stays: dead when its day is gone, next to what is not.
    await writeFile(join(data, 'of-the-day'), randomBytes(200_000))
    await writeFile(join(data, `month-${Math.floor(day / 30)}`), randomBytes(100_000))
    const point = await take('shop', day === 9 ? 'release' : undefined)
    everStored += point.bytes.stored
    trees.set(point.id, await describeTree(data))
    if (day === 21) {
      held = point.id
      await hold(application, point.id, 'the court', reportingOf(t))
    }
    // Often while the months go by, as the daemon does.
    if (day % 15 === 0) pruned.push((await prune()).report!.expired.length)
  }
  const before = storedBytes()
  const dry = await prune(true)
  assert.equal(storedBytes(), before)
  const last = await prune()
  assert.deepEqual(
    last.plan!.points.map(({ id, keep }) => [id, keep]),
    dry.plan!.points.map(({ id, keep }) => [id, keep]),
  )
  const gone = dry.plan!.points.filter(({ keep }) => !keep).map(({ id }) => id)
  assert.deepEqual(last.report!.expired, gone)
  assert.ok(pruned.some((count) => count > 0))
  assert.deepEqual(last.report!.waits, [])

  const [listed] = await listPoints(application, {}, reportingOf(t))
  const left = listed!.points.map(({ committedAt }) => committedAt.slice(0, 10))
  // The label, the hold, the last of March; 28 April is the last of its month and among the last days.
  assert.deepEqual(left, ['2026-02-09', '2026-02-21', '2026-03-29', '2026-04-28', '2026-05-01', '2026-05-04'])
  assert.deepEqual(listed!.holds, { [held]: 'the court' })

  // What is needed are 200 kB a point, 100 kB a month, and half a megabyte of all; some dead bytes stay beside living ones.
  const neededBytes = left.length * 200_000 + 3 * 100_000 + 500_000
  assert.ok(storedBytes() < neededBytes * 1.6, `${storedBytes()} bytes where ${neededBytes} are needed`)
  assert.ok(storedBytes() < everStored / 2, `${storedBytes()} bytes of ${everStored} are left`)
  assert.equal((await prune()).report!.expired.length, 0)
  await assertSound(t, application)
  for (const point of listed!.points) {
    const to = join(home, 'restored')
    const request = { target: 'shop', to, at: { kind: 'point', id: point.id } as const, path: null, start: false }
    await restore(application, await planRestore(application, request, reportingOf(t)), reportingOf(t), () => {})
    assert.deepEqual(diffTrees(trees.get(point.id)!, await describeTree(to)), [])
    rmSync(to, { recursive: true })
  }
})

test('PostgreSQL: any moment within the log, each older point for itself, nothing between; and the log goes on', async (t) => {
  const postgres = await startPostgres(t, { walSegmentMegabytes: 1 })
  const { application, home, setClock, take, prune, storedBytes } = await place(
    t,
    `  shop:
    sources: { db: { type: postgres, url: "${postgres.url()}", tail: 1s } }
    retention: { last: 2, labels: [release] }
`,
  )
  // As the daemon does it.
  const following = follow(t, postgres, (options) =>
    planOf(application).work.follow({ service: 'shop', source: 'db' }, options),
  )
  const write = async (n: number): Promise<string> => {
    await postgres.query('create table if not exists events (n int, filler text)')
    const filler = `select ${n}, string_agg(md5(random()::text), '') from generate_series(1, 40000)`
    await postgres.query(`insert into events ${filler}`)
    const [row] = await postgres.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
    await postgres.query('select pg_switch_wal()')
    await following.durable(row!.lsn)
    return row!.lsn
  }
  const begin = Date.UTC(2026, 2, 1)
  const points: Point[] = []
  const positions: string[] = []
  for (let n = 0; n < 4; n++) {
    setClock(begin + n * DAY_MS)
    positions.push(await write(n))
    points.push(await take('shop', n === 0 ? 'release' : undefined))
  }
  await write(4)
  await assertSound(t, application)

  const before = storedBytes()
  const { plan, report } = await prune()
  assert.deepEqual(report!.expired, [points[1]!.id])
  assert.equal(plan!.logs[0]?.from, points[2]!.id)
  assert.ok(report!.logSegments >= 2, `${report!.logSegments} segments`)
  assert.ok(storedBytes() < before)
  await assertSound(t, application)

  const [listed] = await listPoints(application, {}, reportingOf(t))
  assert.deepEqual(
    listed!.windows!.map(({ point }) => point),
    [points[0]!.id, points[2]!.id],
  )
  const rows = async (at: Parameters<typeof planRestore>[1]['at']): Promise<number> => {
    const to = await mkdtemp(join(tmpdir(), 'regain-pruned-'))
    t.after(() => rm(to, { recursive: true, force: true }))
    const request = { target: 'shop/db', to, at, path: null, start: true }
    await restore(application, await planRestore(application, request, reportingOf(t)), reportingOf(t), () => {})
    const restored = testPostgres(t, await testBinaries(postgres.major), to)
    await restored.adopt()
    const [row] = await restored.query<{ count: string }>('select count(*) from events')
    return Number(row!.count)
  }
  assert.equal(await rows({ kind: 'point', id: points[0]!.id }), 1)
  assert.equal(await rows({ kind: 'lsn', lsn: positions[3]! }), 4)
  await assert.rejects(rows({ kind: 'lsn', lsn: positions[1]! }), (error) => isRegainError(error, 'moment-unreachable'))

  // The follower does not notice, nor does the next backup; what they bring connects to what was left.
  await write(5)
  setClock(begin + 5 * DAY_MS)
  await take('shop')
  assert.equal((await prune()).report!.expired.length, 1)
  await assertSound(t, application)
  assert.equal(await rows({ kind: 'latest' }), 6)

  // Log that is lost, and not pruned, is missed for each point that it leaves useless, also where no other segment tells of it.
  const log = join(home, 'backups/shop/log/db')
  const [oldest] = readdirSync(join(log, 'segments/00000001')).sort()
  rmSync(join(log, 'segments/00000001', oldest!))
  assert.deepEqual(await hurtPoints(t, application), [points[0]!.id])
  rmSync(log, { recursive: true })
  const left = (await listPoints(application, {}, reportingOf(t)))[0]!.points.map(({ id }) => id)
  assert.deepEqual(await hurtPoints(t, application), left.sort())
})
