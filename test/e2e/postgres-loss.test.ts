import assert from 'node:assert/strict'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'

/** Writes rows one a transaction until the server is gone; what was acknowledged, with our clock at that time. */
async function writeUntilItDies(postgres: TestPostgres, from: number): Promise<{ n: number; atMs: number }[]> {
  const client = await postgres.connect()
  const acknowledged: { n: number; atMs: number }[] = []
  for (let n = from; ; n++) {
    try {
      await client.query(`insert into events values ($1, repeat('x', 200))`, [n])
    } catch {
      return acknowledged
    }
    acknowledged.push({ n, atMs: Date.now() })
  }
}

test('the server is killed and its disk lost: every commit older than the tail interval is back', async (t) => {
  const tailMs = 300
  const postgres = await startPostgres(t, { major: 17, settings: { fsync: 'on' } })
  const protection = await protect(t)
  await writeRows(postgres, 1, 1)
  await protection.takePoint(postgres)
  const following = protection.follow(postgres, tailMs)
  const writing = writeUntilItDies(postgres, 2)
  // Several tails, and no whole segment.
  const started = Date.now()
  await following.until(started + 5 * tailMs)
  const killedMs = Date.now()
  await postgres.crash()
  const acknowledged = await writing
  await assert.rejects(following.ended, { code: 'source-unavailable' })
  await rm(postgres.directory, { recursive: true })

  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  const there = new Set(await readRows(copy))
  const due = acknowledged.filter(({ atMs }) => atMs < killedMs - tailMs)
  assert.ok(due.length > 20)
  assert.deepEqual(
    due.filter(({ n }) => !there.has(n)),
    [],
  )
  // And nothing that was never written, and no holes.
  assert.deepEqual(
    [...there].sort((a, b) => a - b),
    Array.from({ length: there.size }, (_, i) => i + 1),
  )
})

test('a time after the last commit is the end of the log, as far as that is known to go', async (t) => {
  const postgres = await startPostgres(t)
  const protection = await protect(t)
  await writeRows(postgres, 1, 3)
  await protection.takePoint(postgres)
  const following = protection.follow(postgres)
  const rows = await writeRows(postgres, 4, 5)
  const idle = Date.parse(rows.at(-1)?.at ?? '') + 400
  await following.until(idle + 400)
  await postgres.query('select pg_switch_wal()')
  await following.caughtUp()
  await following.stop()
  const { postgres: copy } = await protection.recover(postgres, { kind: 'time', time: new Date(idle).toISOString() })
  assert.deepEqual(await readRows(copy), [1, 2, 3, 4, 5])
  await assert.rejects(protection.plan({ kind: 'time', time: '2999-01-01T00:00:00Z' }), {
    code: 'moment-unreachable',
    message: /furthest moment that can be reached is 20.*the log in the repository ends there/,
  })
  await assert.rejects(protection.plan({ kind: 'time', time: '2001-01-01T00:00:00Z' }), {
    code: 'moment-unreachable',
    message: /earliest moment/,
  })
  await assert.rejects(protection.plan({ kind: 'name', name: 'never made' }), {
    code: 'moment-unreachable',
    message: /"never made"/,
  })
  await assert.rejects(protection.plan({ kind: 'lsn', lsn: 'FF/0' }), {
    code: 'moment-unreachable',
    message: /furthest position/,
  })
})

test('a missing segment is named before anything is written, with the furthest moment', async (t) => {
  const postgres = await startPostgres(t, { walSegmentMegabytes: 1 })
  const protection = await protect(t)
  const following = protection.follow(postgres)
  await writeRows(postgres, 1, 5)
  const point = await protection.takePoint(postgres)
  const rows = await writeRows(postgres, 6, 4000)
  await following.caughtUp()
  await following.stop()
  const log = protection.repository.log('db')
  const whole = (await log.list()).segments.map(({ name }) => name)
  const victim = whole.at(-2)
  assert.ok(victim && whole.length > 5)
  await protection.storage.delete(`log/db/segments/00000001/${victim}`)
  const report = await protection.repository.verify({ readData: true, signal: t.signal, progress: () => undefined })
  assert.deepEqual(
    report.problems.map(({ object, kind }) => `${kind} ${object}`),
    [`missing log/db/segments/00000001/${victim}`],
  )

  const directory = join(await temporaryDirectory(t), 'restored')
  const last = rows.at(-1)?.at ?? ''
  await assert.rejects(
    protection.restore(postgres, { kind: 'time', time: last }, directory),
    (error: Error & { code: string }) => {
      assert.equal(error.code, 'moment-unreachable')
      assert.match(error.message, /nothing was restored.*furthest moment.*the log from 0\/\w+ to 0\/\w+ is missing/s)
      return true
    },
  )
  await assert.rejects(stat(directory), { code: 'ENOENT' })
  // The end of what connects can be had, and the person is told what cannot.
  const plan = await protection.plan({ kind: 'latest' })
  assert.equal(plan.point, point.id)
  assert.match(plan.notes[0] ?? '', /cannot be reached: the log from .* is missing/)
  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  const there = await readRows(copy)
  assert.ok(there.length >= 5 && there.length < 4000)
})

test('a point whose own log is gone is refused, and a backup against a store of other bytes fails', async (t) => {
  const postgres = await startPostgres(t)
  const protection = await protect(t)
  await writeRows(postgres, 1, 2)
  const point = await protection.takePoint(postgres)
  const [segment] = (await protection.repository.log('db').list()).segments
  assert.ok(segment)
  await protection.storage.delete(`log/db/segments/00000001/${segment.name}`)
  await assert.rejects(protection.plan({ kind: 'point', id: point.id }), {
    code: 'moment-unreachable',
    message: new RegExp(`${point.id} needs the log`),
  })

  // A backup begins in this segment or one of the next two.
  const log = protection.repository.log('db')
  for (const ahead of [0, 1, 2]) {
    const [next] = await postgres.query<{ name: string }>(
      `select pg_walfile_name(pg_current_wal_lsn() + $1::bigint * 16777216) as name`,
      [ahead],
    )
    await log.putSegment('00000001', next?.name ?? '', Buffer.alloc(16 * 1024 * 1024, 1), {
      until: new Date(0).toISOString(),
    })
  }
  await assert.rejects(protection.takePoint(postgres), { code: 'log-conflict' })
  assert.equal((await protection.repository.points()).length, 1)
})

test('a point with a lost file is refused, and what was restored of it can not be started', async (t) => {
  const postgres = await startPostgres(t)
  const protection = await protect(t)
  await writeRows(postgres, 1, 3)
  await protection.takePoint(postgres)
  const packs: { name: string; size: number }[] = []
  for await (const object of protection.storage.list('packs/')) packs.push(object)
  // The largest holds the cluster's files; listings are in a small one of their own.
  const { name, size } = packs.reduce((largest, pack) => (pack.size > largest.size ? pack : largest))
  const bytes = await protection.storage.get(name)
  const middle = Math.floor(size / 2)
  bytes[middle] = bytes[middle]! ^ 1
  await protection.storage.put(name, bytes)

  const directory = join(await temporaryDirectory(t), 'restored')
  await assert.rejects(protection.restore(postgres, { kind: 'latest' }, directory, { start: true }), {
    code: 'repository-damaged',
  })
  await assert.rejects(stat(join(directory, 'global/pg_control')), { code: 'ENOENT' })
  assert.ok(await stat(join(directory, 'PG_VERSION')))
})
