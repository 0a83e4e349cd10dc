import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { Following } from '../support/following.ts'
import { startPostgres, startStandby, type TestPostgres } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'

/** Both hosts in one URL, as an application would name them. */
function urlOf(one: TestPostgres, other: TestPostgres, wanted: string): string {
  const hosts = [one, other].map((server) => `127.0.0.1:${server.server().port}`).join(',')
  return `postgresql://postgres@${hosts}/postgres?target_session_attrs=${wanted}&connect_timeout=5`
}

/** Writes rows one a transaction until the server is gone: those that were acknowledged, and the clock at that time. */
async function writeUntilItDies(postgres: TestPostgres, from: number, wrote: (n: number) => void) {
  const client = await postgres.connect()
  const acknowledged: { n: number; at: string }[] = []
  for (let n = from; ; n++) {
    try {
      await client.query(`insert into events values ($1, repeat('x', 200))`, [n])
      const { rows } = await client.query<{ at: string }>(
        `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
      )
      acknowledged.push({ n, at: rows[0]?.at ?? '' })
      wrote(n)
    } catch {
      return acknowledged
    }
  }
}

test('the primary is killed and its standby promoted: the log goes on from there, and nothing acknowledged is lost', async (t) => {
  const primary = await startPostgres(t, { major: 16, walSegmentMegabytes: 1 })
  const standby = await startStandby(t, primary)
  const protection = await protect(t)
  await writeRows(primary, 1, 3)
  // What is acknowledged is on the standby.
  await primary.query(`alter system set synchronous_standby_names = 'standby'`)
  await primary.query('select pg_reload_conf()')
  await protection.takePoint(primary)
  const url = urlOf(primary, standby, 'primary')
  const before = protection.follow(primary, 200, url)

  const enough = Promise.withResolvers<void>()
  const writing = writeUntilItDies(primary, 4, (n) => n === 300 && enough.resolve())
  await enough.promise
  await primary.crash()
  const acknowledged = await writing
  await assert.rejects(before.ended, { code: 'source-unavailable' })
  // Nobody is primary yet: it says so, and tries again later.
  await assert.rejects(protection.follow(standby, 200, url).ended, (error) => {
    assert.ok(isRegainError(error, 'source-unavailable'))
    assert.match(error.message, /target_session_attrs=primary.*nothing answers there; 127.0.0.1:\d+: a standby/)
    return true
  })
  await standby.query('select pg_promote()')
  const after: Following = protection.follow(standby, 200, url)
  const last = acknowledged.at(-1)?.n ?? 0
  const later = await writeRows(standby, last + 2, last + 20)
  await after.caughtUp()
  assert.equal(after.status().needsPoint, undefined)

  const middle = acknowledged[Math.floor(acknowledged.length / 2)]!
  const old = await protection.recover(standby, { kind: 'time', time: middle.at })
  assert.deepEqual(
    await readRows(old.postgres),
    Array.from({ length: middle.n }, (_, i) => i + 1),
  )
  const { postgres: copy } = await protection.recover(standby, { kind: 'time', time: later[9]?.at ?? '' })
  const there = new Set(await readRows(copy))
  const due = [1, 2, 3, ...acknowledged.map(({ n }) => n), ...later.slice(0, 10).map(({ n }) => n)]
  assert.deepEqual(
    due.filter((n) => !there.has(n)),
    [],
  )
  assert.ok(!there.has(later[10]?.n ?? 0))

  // The old primary comes back as if nothing had happened, the first in the URL: it is not the one.
  await after.stop()
  await primary.start()
  const again = protection.follow(standby, 200, url)
  await writeRows(standby, 10_001, 10_003)
  await again.caughtUp()
  await again.stop()
  // Alone in the URL it is followed, and the mistake is told.
  const astray = protection.follow(primary, 200)
  await astray.caughtUp()
  assert.match(protection.warnings.join('\n'), /is on timeline 1, and the repository holds log of timeline 2/)
})

test('a standby takes over that no longer has what comes next: the gap is said, and a point asked for', async (t) => {
  const primary = await startPostgres(t, {
    major: 14,
    walSegmentMegabytes: 1,
    settings: { wal_keep_size: '0', min_wal_size: '2MB', max_wal_size: '4MB' },
  })
  const standby = await startStandby(t, primary)
  const protection = await protect(t)
  await writeRows(primary, 1, 3)
  const before = protection.follow(primary, 100)
  const point = await protection.takePoint(primary)
  await before.caughtUp()
  await before.stop()
  // While nobody follows, much is written, and the standby forgets what it has replayed.
  for (let i = 0; i < 4; i++) {
    await primary.query(`create table filler as select repeat(md5(g::text), 20) from generate_series(1, 5000) g`)
    await primary.query('drop table filler')
    await primary.query('checkpoint')
    const [row] = await primary.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
    const replayed = 'select pg_last_wal_replay_lsn() >= $1::pg_lsn as there'
    while (!(await standby.query<{ there: boolean }>(replayed, [row?.lsn]))[0]?.there) t.signal.throwIfAborted()
    await standby.query('checkpoint')
  }
  await primary.crash()
  await standby.query('select pg_promote()')
  const after = protection.follow(standby, 100, urlOf(primary, standby, 'read-write'))
  await writeRows(standby, 4, 6)
  await after.caughtUp()
  assert.match(after.status().needsPoint ?? '', /no longer has the WAL from/)
  const next = await protection.takePoint(standby)
  await after.caughtUp()
  await after.stop()
  assert.equal((await protection.plan({ kind: 'latest' })).point, next.id)
  assert.equal((await protection.plan({ kind: 'point', id: point.id })).point, point.id)
})
