import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPostgresSource } from '../../src/sources/postgres/source.ts'
import { startPostgres, startStandby, type TestPostgres } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'
import { MemoryLog, MemoryPoint, testAmbient, testOptions } from '../support/postgres-recorders.ts'

function urlOf(one: TestPostgres, other: TestPostgres): string {
  const hosts = [one, other].map((server) => `127.0.0.1:${server.server().port}`).join(',')
  return `postgresql://postgres@${hosts}/postgres?target_session_attrs=prefer-standby`
}

/** Resolves when the standby has replayed what its primary has written by now, and made that a restart point. */
async function restartPoint(primary: TestPostgres, standby: TestPostgres): Promise<void> {
  await primary.query('checkpoint')
  const [row] = await primary.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
  for (;;) {
    const [now] = await standby.query<{ there: boolean }>('select pg_last_wal_replay_lsn() >= $1::pg_lsn as there', [
      row?.lsn,
    ])
    if (now?.there) break
  }
  await standby.query('checkpoint')
}

test('a standby is backed up in its primary’s place, by changes too, and says honestly how far it reaches', async (t) => {
  const primary = await startPostgres(t, {
    major: 17,
    walSegmentMegabytes: 1,
    settings: { summarize_wal: 'on' },
  })
  const standby = await startStandby(t, primary)
  const url = urlOf(primary, standby)
  const protection = await protect(t)
  await writeRows(primary, 1, 5)
  await restartPoint(primary, standby)
  const findings = await protection.source(primary, undefined, url).check(testOptions(t.signal))
  const said = findings.filter(({ code }) => code === 'host' || code === 'standby').map(({ message }) => message)
  assert.deepEqual(
    said.map((message) => message.replace(/127\.0\.0\.1:\d+/, 'HOST')),
    [
      'HOST is a primary on timeline 1.',
      'HOST is a standby, and the one that is backed up now.',
      'Points and the log come from the standby HOST, which spares the primary. What the primary has acknowledged and this standby has not received yet is not protected.',
    ],
  )
  const full = await protection.takePoint(primary, 'full', url)
  assert.equal(full.positions.standby, true)
  await writeRows(primary, 6, 300)
  await restartPoint(primary, standby)
  const point = await protection.takePoint(primary, 'incremental', url)
  assert.deepEqual([point.kind, point.positions.standby], ['incremental', true], protection.warnings.join('\n'))

  // The standby stops receiving; its primary goes on. What the standby never got is not claimed.
  const following = protection.follow(standby, 100, url)
  await following.until(Date.now() - 1000)
  const [sender] = await primary.query<{ pid: number }>(
    `select pid from pg_stat_replication where application_name = 'standby'`,
  )
  assert.ok(sender)
  process.kill(sender.pid, 'SIGSTOP')
  try {
    const lost = await writeRows(primary, 301, 305)
    const behind = await protection.takePoint(primary, 'full', url)
    assert.ok(Date.parse(String(behind.positions.stopTime)) < Date.parse(lost[0]?.at ?? ''))
    // The backup took longer than the follower waits between two looks; the standby's own clock is past the commits.
    const claimed = following.status().durableUntil ?? ''
    assert.ok(Date.parse(claimed) < Date.parse(lost[0]?.at ?? ''), `${claimed} ${lost[0]?.at}`)
    await assert.rejects(protection.plan({ kind: 'time', time: lost[4]?.at ?? '' }), { code: 'moment-unreachable' })
  } finally {
    process.kill(sender.pid, 'SIGCONT')
  }
  await following.caughtUp()
  await following.stop()

  const { postgres: copy } = await protection.recover(standby, { kind: 'point', id: point.id })
  assert.deepEqual(
    await readRows(copy),
    Array.from({ length: 300 }, (_, i) => i + 1),
  )
})

test('a standby that is promoted during its backup ends it, and says what to do', async (t) => {
  const primary = await startPostgres(t, { major: 15 })
  const standby = await startStandby(t, primary)
  const log = new MemoryLog()
  const source = createPostgresSource(
    { url: standby.url(), log: 'none', slot: 'regain_test' },
    { log, ambient: testAmbient(), fetchCommand: ['false'], search: {} },
  )
  const point = new MemoryPoint()
  let promoted: Promise<unknown> | null = null
  point.onWrite = async () => {
    promoted ??= standby.query('select pg_promote()')
    await promoted
  }
  await assert.rejects(source.backup(point, { ...testOptions(t.signal), kind: 'full' }), {
    code: 'source-unavailable',
    message: /was promoted during the backup\. Nothing of it is kept/,
  })
})
