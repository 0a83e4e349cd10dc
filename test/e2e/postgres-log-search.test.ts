import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { parseMoment } from '../../src/operations/moments.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { protect } from '../support/postgres-protection.ts'
import { searchTestLog, transaction } from '../support/search-log.ts'

/** Lost, searched for, and brought back with the very --at that the search gives. */

async function countIn(postgres: TestPostgres, table: string, database = 'postgres'): Promise<number> {
  const client = new pg.Client({ connectionString: postgres.url(database) })
  await client.connect()
  try {
    return Number((await client.query<{ n: string }>(`select count(*) as n from ${table}`)).rows[0]?.n)
  } finally {
    await client.end()
  }
}

for (const major of [14, 18]) {
  test(`version ${major}: each loss comes back with what was committed before it, and without what came after`, async (t) => {
    const postgres = await startPostgres(t, { major, settings: { max_prepared_transactions: '5' } })
    await postgres.query(`
      create table orders as select n from generate_series(1, 500) n;
      create table customers as select n from generate_series(1, 300) n;
      create table steps (n int)`)
    await postgres.query('create database other')
    await transaction(postgres, ['create table kept as select generate_series(1, 120) as n'], 'commit', 'other')
    const protection = await protect(t)
    const following = protection.follow(postgres)
    await protection.takePoint(postgres)

    const step = (n: number) => postgres.query('insert into steps values ($1)', [n])
    // Others go on writing while each of these is open, and after it: what they committed must come back.
    const open = await postgres.connect()
    await open.query('begin; delete from orders where n <= 200')
    await step(1)
    await open.query('commit')
    await step(2)
    await open.query('begin; truncate customers')
    await step(3)
    await open.query('commit')
    await transaction(postgres, ['drop table orders'], 'rollback')
    await open.query("begin; savepoint a; drop table orders; release a; prepare transaction 'p'")
    await step(4)
    await open.query("commit prepared 'p'")
    await step(5)
    await postgres.query('drop database other')
    await step(6)
    await following.caughtUp()
    await following.stop()
    await postgres.stop()

    const { losses, summary } = await searchTestLog(t, protection)
    assert.deepEqual(summary.notes, [])
    const kinds = losses.map(({ kind, table, database }) => `${kind} ${table ?? database}`)
    assert.deepEqual(kinds, ['delete orders', 'truncate customers', 'drop orders', 'drop-database other'])
    assert.deepEqual(
      losses.map(({ prepared }) => prepared),
      [false, false, true, false],
    )
    const back = [
      [0, 'orders', 500, 'postgres', 1],
      [1, 'customers', 300, 'postgres', 3],
      [2, 'orders', 300, 'postgres', 4],
      [3, 'kept', 120, 'other', 5],
    ] as const
    // Each recovery takes its time: two of them on each version.
    for (const [i, table, rows, database, steps] of back.filter((_, n) => n % 2 === (major === 14 ? 0 : 1))) {
      const { postgres: copy } = await protection.recover(postgres, parseMoment(losses[i]?.at ?? ''))
      // As after a crash: what was prepared is not decided yet.
      if (i === 2) await copy.query("rollback prepared 'p'")
      assert.equal(await countIn(copy, table, database), rows, kinds[i] ?? '')
      assert.equal(await countIn(copy, 'steps'), steps, kinds[i] ?? '')
    }
  })
}
