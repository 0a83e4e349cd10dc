import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres } from '../support/postgres.ts'
import { protect, readRows, type WrittenRow, writeRows } from '../support/postgres-protection.ts'

/** The numbers 1 to `last`: exactly what had been acknowledged by then. */
function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1)
}

function row(rows: WrittenRow[], n: number): WrittenRow {
  const found = rows.find((candidate) => candidate.n === n)
  assert.ok(found)
  return found
}

for (const [major, walSegmentMegabytes] of [
  [13, 64],
  [15, 16],
  [18, 16],
] as const) {
  test(`version ${major}, segments of ${walSegmentMegabytes} MiB: a cluster comes back to each kind of moment, exactly`, async (t) => {
    const postgres = await startPostgres(t, { major, walSegmentMegabytes })
    const protection = await protect(t)
    const following = protection.follow(postgres)
    const rows = await writeRows(postgres, 1, 10)
    const first = await protection.takePoint(postgres)
    rows.push(...(await writeRows(postgres, 11, 20)))
    await postgres.query(`select pg_create_restore_point('before the release')`)
    rows.push(...(await writeRows(postgres, 21, 30)))
    await protection.takePoint(postgres)
    rows.push(...(await writeRows(postgres, 31, 40)))
    await following.caughtUp()
    await following.stop()
    await postgres.stop()

    const recovered = async (at: Parameters<typeof protection.recover>[1]): Promise<number[]> => {
      const { postgres: copy, summary } = await protection.recover(postgres, at)
      assert.match(summary.connection ?? '', /^postgres:\/\/postgres@127\.0\.0\.1:\d+\/postgres$/)
      const numbers = await readRows(copy)
      // It is an ordinary server again: it writes, and nothing steers a recovery any more.
      await copy.query('create table afterwards (n int)')
      assert.equal(
        (
          await copy.query<{ n: string }>(
            `select count(*) as n from pg_file_settings where name like 'recovery%' or name = 'restore_command'`,
          )
        )[0]?.n,
        '0',
      )
      await assert.rejects(stat(join(copy.directory, 'regain_recovery')), { code: 'ENOENT' })
      return numbers
    }
    assert.deepEqual(await recovered({ kind: 'time', time: row(rows, 35).at }), upTo(35))
    assert.deepEqual(await recovered({ kind: 'latest' }), upTo(40))
    assert.deepEqual(await recovered({ kind: 'name', name: 'before the release' }), upTo(20))
    if (major === 13) return
    assert.deepEqual(await recovered({ kind: 'lsn', lsn: row(rows, 25).lsn }), upTo(25))
    assert.deepEqual(await recovered({ kind: 'xid', xid: row(rows, 15).xid }), upTo(15))
    assert.deepEqual(await recovered({ kind: 'point', id: first.id }), upTo(10))
  })
}
