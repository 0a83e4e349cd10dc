import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recoveryWindows } from '../../src/sources/postgres/recovery/recovery-log.ts'
import { startPostgres, startStandby } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'

function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1)
}

test('a promotion while the log is followed: recovery across the fork, and to the old timeline before it', async (t) => {
  const primary = await startPostgres(t, { major: 16, walSegmentMegabytes: 1 })
  const protection = await protect(t)
  const standby = await startStandby(t, primary)
  const rows = await writeRows(primary, 1, 5)
  const following = protection.follow(standby)
  const point = await protection.takePoint(standby)
  rows.push(...(await writeRows(primary, 6, 10)))
  await following.caughtUp()
  await primary.stop()
  await standby.query('select pg_promote()')
  rows.push(...(await writeRows(standby, 11, 20)))
  await following.caughtUp()
  assert.match(protection.warnings.join('\n'), /went over to timeline 2 at /)
  await following.stop()

  const plan = await protection.plan({ kind: 'latest' })
  assert.deepEqual([plan.point, plan.timeline], [point.id, 2])
  const latest = await protection.recover(standby, { kind: 'latest' })
  assert.deepEqual(await readRows(latest.postgres), upTo(20))
  const time = rows.find(({ n }) => n === 8)?.at ?? ''
  const before = await protection.recover(standby, { kind: 'time', time })
  assert.deepEqual(await readRows(before.postgres), upTo(8))
})

test('a recovered cluster takes its original’s place: the log goes on with its timeline, and both ways can be gone', async (t) => {
  const original = await startPostgres(t, { major: 15, walSegmentMegabytes: 1 })
  const protection = await protect(t)
  await protection.takePoint(original)
  const following = protection.follow(original)
  const rows = await writeRows(original, 1, 10)
  await following.caughtUp()
  await following.stop()
  await original.stop()

  const { postgres: copy } = await protection.recover(original, {
    kind: 'time',
    time: rows.find(({ n }) => n === 4)?.at ?? '',
  })
  const again = protection.follow(copy)
  await copy.query(`insert into events values (100, 'after the recovery')`)
  await again.caughtUp()
  await again.stop()
  const latest = await protection.recover(copy, { kind: 'latest' })
  assert.deepEqual(await readRows(latest.postgres), [1, 2, 3, 4, 100])
  // The old way is still there, behind the fork.
  const old = await protection.recover(copy, { kind: 'lsn', lsn: rows.find(({ n }) => n === 3)?.lsn ?? '' })
  assert.deepEqual(await readRows(old.postgres), [1, 2, 3])
  const points = await protection.repository.points()
  const windows = await recoveryWindows(points, protection.repository.log('db'))
  assert.deepEqual(
    windows.map(({ branch }) => branch),
    ['timeline 1', 'timeline 2'],
  )
})
