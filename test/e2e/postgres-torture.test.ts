import assert from 'node:assert/strict'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { waitFor } from '../../src/demo/wait.ts'
import { findRunningServer, stopRunningServer } from '../../src/sources/postgres/server/running-server.ts'
import { jsonLines, LAUNCHER, type RunningCommand, runCommand, startCommand } from '../support/command.ts'
import { startPostgres, type TestPostgres, temporaryDirectory, testPostgres } from '../support/postgres.ts'
import { assertState, prepareWorkload, serverClock, type Workload } from '../support/postgres-workload.ts'
import { chooseSeed, seededNumbers } from '../support/repository.ts'

/**
 * A server under load, followed and backed up by the program itself, while program and server are killed at random; and
 * after each kill some past moment is brought back and compared with what the writers had been told. The soak test runs many cycles.
 */

const CYCLES = Number(process.env.REGAIN_SOAK_CYCLES ?? 2)
const MAJOR = Number(process.env.REGAIN_SOAK_MAJOR ?? 18)
/**
 * A program that judges restored data directories, by pg_amcheck and others: its first argument; the second is 'started' if
 * a server has run on it and ended, 'asleep' if none has yet.
 */
const JUDGE = process.env.REGAIN_SOAK_JUDGE
const WRITERS = 3
const KILL_WITHIN_MS = 2500
const PRUNE_EVERY = 5

const VICTIMS = ['backup', 'follower', 'server', 'backup and server', 'nobody'] as const

interface Place {
  directory: string
  /** Runs a command to its end with --json. */
  regain(...args: string[]): Promise<{ status: number | null; last: Record<string, unknown>; all: string }>
  start(...args: string[]): RunningCommand
}

test('kills at random moments lose no acknowledged transaction, and every past moment comes back exactly', async (t) => {
  const seed = chooseSeed()
  t.diagnostic(`seed ${seed}, PostgreSQL ${MAJOR}, ${CYCLES} cycles`)
  const random = seededNumbers(`torture ${seed}`)
  const postgres = await startPostgres(t, {
    major: MAJOR,
    dataChecksums: true,
    settings: { ...(MAJOR >= 17 ? { summarize_wal: 'on' } : {}), max_wal_size: '128MB' },
  })
  const place = await makePlace(t, postgres)
  const workload = await prepareWorkload(postgres, WRITERS, seededNumbers(`writers ${seed}`))
  await workload.start()
  t.after(() => workload.stop().catch(() => undefined))
  await succeed(place, 'backup', 'shop', '--full')
  let follower = place.start('serve')
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const victim = VICTIMS[cycle < 2 ? 2 * cycle : random(VICTIMS.length)] as (typeof VICTIMS)[number]
    const said = await killOne(t, place, postgres, workload, follower, victim, random(KILL_WITHIN_MS))
    if (victim === 'follower') follower = place.start('serve')
    // What was killed is in nobody's way.
    await succeed(place, 'backup', 'shop')
    if (cycle % PRUNE_EVERY === PRUNE_EVERY - 1) await succeed(place, 'prune', 'shop')
    // First of all the newest increment as it is: a log that is replayed over it can hide what it lacks.
    const reached = await restoreSome(t, place, postgres, workload, cycle === 0 ? () => 0 : random)
    t.diagnostic(`cycle ${cycle}: ${victim} killed (${said}), ${reached}`)
  }
  await workload.stop()
  follower.child.kill('SIGTERM')
  await follower.result
  await succeed(place, 'verify', 'shop', '--read-data')
})

async function makePlace(t: TestContext, postgres: TestPostgres): Promise<Place> {
  const directory = await temporaryDirectory(t, 'regain-torture-')
  const config = join(directory, 'regain.yaml')
  await writeFile(
    config,
    `version: 1
state: state
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    sources: { db: { type: postgres, url: "${postgres.url()}", log: continuous, tail: 1s, programs: "${postgres.binaries.directory}" } }
    schedule: { full: "0 0 1 1 *" }
    retention: { last: 6 }
`,
  )
  const start: Place['start'] = (...args) => {
    const running = startCommand(LAUNCHER, ['--config', config, '--json', ...args])
    t.after(async () => {
      running.child.kill('SIGKILL')
      await running.result
    })
    return running
  }
  const place: Place = {
    directory,
    start,
    async regain(...args) {
      const { status, stdout, stderr } = await runCommand(LAUNCHER, ['--config', config, '--json', ...args])
      return { status, last: jsonLines(stdout).at(-1) ?? {}, all: `${args.join(' ')}: ${status}\n${stdout}\n${stderr}` }
    },
  }
  await succeed(place, 'init', '--yes')
  return place
}

async function succeed(place: Place, ...args: string[]): Promise<Record<string, unknown>> {
  const { status, last, all } = await place.regain(...args)
  assert.equal(status, 0, all)
  return last
}

/** Begins a backup and kills somebody while it runs, or just after. Resolves when all that was killed is up again. */
async function killOne(
  t: TestContext,
  place: Place,
  postgres: TestPostgres,
  workload: Workload,
  follower: RunningCommand,
  victim: (typeof VICTIMS)[number],
  delayMs: number,
): Promise<string> {
  const backup = place.start('backup', 'shop')
  await delay(delayMs, undefined, { signal: t.signal })
  const hits = (name: string) => victim.includes(name)
  if (hits('backup')) backup.child.kill('SIGKILL')
  if (hits('follower')) {
    const ended = once(follower.child, 'exit')
    follower.child.kill('SIGKILL')
    await ended
  }
  if (hits('server')) {
    await postgres.crash()
    await workload.stop()
    await postgres.start()
    await workload.start()
  }
  const { status, stdout } = await backup.result
  if (!hits('server') && !hits('backup')) assert.equal(status, 0, stdout)
  return `after ${delayMs} ms, the backup ended with ${status ?? 'the kill'}`
}

/** A point, the newest if not by chance; a moment of the window, or the end of it. */
async function restoreSome(
  t: TestContext,
  place: Place,
  postgres: TestPostgres,
  workload: Workload,
  random: (below: number) => number,
): Promise<string> {
  const now = await serverClock(postgres)
  const { window, points } = await waitFor('the log up to now', 120_000, t.signal, async () => {
    const { sources } = (await succeed(place, 'points', 'shop/db')) as unknown as Listing
    const newest = sources[0]?.windows.at(-1)
    const isThere = newest?.to.time !== null && Date.parse(newest?.to.time ?? '') > Date.parse(now)
    return newest && isThere ? { window: newest, points: sources[0]?.points ?? [] } : null
  })
  const way = random(4)
  if (way === 1) return restored(t, place, postgres, workload, 'latest', { from: now, to: '9' })
  if (way > 1) {
    const moments = workload.transactions
      .map(({ acknowledged }) => acknowledged)
      .filter((at) => at !== null && at <= now && Date.parse(at) > Date.parse(window.from.time))
    const at = moments[random(moments.length)]
    assert.ok(at)
    return restored(t, place, postgres, workload, at, { from: at, to: at })
  }
  const point = points.sort((a, b) => b.positions.stopTime.localeCompare(a.positions.stopTime))[random(points.length)]
  assert.ok(point)
  const { startTime, stopTime } = point.positions
  return restored(t, place, postgres, workload, point.id, { from: startTime, to: stopTime })
}

interface Listing {
  sources: {
    windows: { from: { time: string }; to: { time: string | null } }[]
    points: { id: string; positions: { startTime: string; stopTime: string } }[]
  }[]
}

async function restored(
  t: TestContext,
  place: Place,
  postgres: TestPostgres,
  workload: Workload,
  at: string,
  moment: { from: string; to: string },
): Promise<string> {
  const target = join(place.directory, 'restored')
  try {
    await succeed(place, 'restore', 'shop/db', '--to', target, '--at', at, '--start')
    const copy = testPostgres(t, postgres.binaries, target)
    await copy.adopt()
    const transactions = await assertState(copy, workload.transactions, moment)
    await stop(target)
    await judge(target, 'started')
    if (JUDGE !== undefined && moment.from !== moment.to) {
      await rm(target, { recursive: true })
      await succeed(place, 'restore', 'shop/db', '--to', target, '--at', at)
      await judge(target, 'asleep')
    }
    return `${at} came back with ${transactions} of ${workload.transactions.length} transactions`
  } finally {
    await stop(target)
    for (const name of [target, `${target}.tablespaces`]) await rm(name, { recursive: true, force: true })
  }
}

async function stop(directory: string): Promise<void> {
  const server = await findRunningServer(directory)
  if (server !== null) await stopRunningServer(server)
}

async function judge(directory: string, state: 'started' | 'asleep'): Promise<void> {
  if (JUDGE === undefined) return
  const { status, stdout, stderr } = await runCommand(JUDGE, [directory, state])
  assert.equal(status, 0, stdout + stderr)
}
