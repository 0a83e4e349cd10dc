import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../../../test/support/postgres.ts'
import { protect } from '../../../../test/support/postgres-protection.ts'
import { searchTestLog, transaction } from '../../../../test/support/search-log.ts'
import { parseMoment } from '../../../operations/moments.ts'
import type { FoundLoss } from './search.ts'

function short({ kind, database, schema, table, rows, xid }: FoundLoss): string {
  return `${kind} ${database}${table === null ? '' : `.${schema}.${table}`}${rows === null ? '' : ` ${rows}`} by ${xid}`
}

const VERSIONS = [
  [13, { wal_compression: 'on' }, 16],
  [14, {}, 1],
  [15, {}, 16],
  [16, {}, 16],
  [17, { wal_compression: 'pglz' }, 1],
  [18, {}, 16],
] as const

for (const [major, settings, walSegmentMegabytes] of VERSIONS) {
  test(`version ${major}: what committed transactions dropped, truncated and deleted is found, and nothing else`, async (t) => {
    const postgres = await startPostgres(t, {
      major,
      settings: { max_prepared_transactions: '5', ...settings },
      walSegmentMegabytes,
    })
    await postgres.query(`
      create table orders as select n from generate_series(1, 500) n;
      create table customers as select n, 'c' || n as name from generate_series(1, 300) n;
      create table early as select 1 as n;
      create schema sales;
      create table sales.orders (n int primary key);
      create view seen as select * from orders;
      create table split (n int) partition by range (n);
      create table split_1 partition of split for values from (0) to (1000);
      create table split_2 partition of split for values from (1000) to (2000);
      insert into split select generate_series(1, 150)`)
    await postgres.query('create database other')
    await transaction(postgres, ['create table only_there as select generate_series(1, 120) as n'], 'commit', 'other')
    const protection = await protect(t)
    const following = protection.follow(postgres)

    // Begun before the point, committed after it.
    const long = await postgres.connect()
    await long.query('begin')
    const { rows } = await long.query<{ xid: string }>('select txid_current()::text as xid')
    await long.query('drop table early')
    const point = await protection.takePoint(postgres)
    await long.query('commit')
    const expected = [`drop postgres.public.early by ${rows[0]?.xid}`]
    const expect = (text: string, xid: number) => void expected.push(`${text} by ${xid}`)

    await postgres.query('create table fresh as select n from generate_series(1, 200) n')
    expect(
      'delete postgres.public.orders 150',
      await transaction(postgres, [
        'savepoint a',
        'drop table orders cascade',
        'rollback to a',
        'savepoint b',
        'delete from orders where n <= 100',
        'release b',
        'delete from orders where n between 101 and 150',
      ]),
    )
    await transaction(postgres, ['drop table customers', 'delete from orders'], 'rollback')
    // The catalogs that name tables get other files.
    for (const catalog of ['pg_class', 'pg_namespace', 'pg_database']) await postgres.query(`vacuum full ${catalog}`)
    // Rewritten, not emptied.
    await postgres.query('vacuum full customers')
    await postgres.query('alter table customers alter column n type bigint')
    await postgres.query('analyze customers')
    // Gone with those who made them.
    await transaction(postgres, ['create table brief as select generate_series(1, 200)', 'drop table brief'])
    await postgres.query('create temp table mine (n int); drop table mine')
    // Moved to another partition.
    await postgres.query('update split set n = n + 1000')
    await transaction(postgres, ['delete from orders where n > 495'])
    await transaction(postgres, ['update orders set n = n + 1'])
    expect(
      'truncate postgres.public.customers',
      await transaction(postgres, [
        'savepoint a',
        'truncate customers',
        'release a',
        "insert into customers values (1, 'x')",
      ]),
    )
    await postgres.query('alter table customers rename to clients')
    expect('drop postgres.public.clients', await transaction(postgres, ['drop table clients']))
    expect('drop postgres.sales.orders', await transaction(postgres, ['drop schema sales cascade']))
    const prepared = await transaction(postgres, ['drop table fresh'], "prepare transaction 'p'")
    await transaction(postgres, ['drop view seen'], 'rollback')
    await postgres.query("commit prepared 'p'")
    expect('drop postgres.public.fresh', prepared)
    expect(
      'delete other.public.only_there 120',
      await transaction(postgres, ['delete from only_there'], 'commit', 'other'),
    )
    await postgres.query('create database made')
    await postgres.query('create database made_too template other')
    await transaction(postgres, ['create table inside (n int)'], 'commit', 'made')
    expect('drop made.public.inside', await transaction(postgres, ['drop table inside'], 'commit', 'made'))
    expect(
      'drop made_too.public.only_there',
      await transaction(postgres, ['drop table only_there'], 'commit', 'made_too'),
    )
    await postgres.query('drop database made')
    const whole = await transaction(postgres, ['drop table orders cascade'])
    expect('drop postgres.public.orders', whole)
    expect('drop postgres.public.seen', whole)
    await following.caughtUp()

    const { losses, summary } = await searchTestLog(t, protection)
    const found = losses.map(short)
    const database = losses.find(({ kind }) => kind === 'drop-database')
    assert.equal(database?.database, 'made')
    assert.deepEqual(found.filter((text) => !text.startsWith('drop-database')).sort(), expected.sort())
    assert.deepEqual(summary.notes, [])
    assert.deepEqual([summary.smaller, summary.isKnown], [1, true])
    assert.deepEqual(
      summary.searched.map((stretch) => stretch.point),
      [point.id],
    )
    assert.ok(losses.every((loss) => loss.at !== null && loss.atTime < loss.time))
    assert.equal(losses.find(({ kind }) => kind === 'truncate')?.estimatedRows, 300)

    const narrow = async (wanted: Parameters<typeof searchTestLog>[2]) =>
      (await searchTestLog(t, protection, wanted)).losses.map(short)
    const orders = found.filter((text) => text.includes('.public.orders'))
    assert.deepEqual(await narrow({ table: 'orders', schema: 'public', database: 'postgres' }), orders)
    // And sales.orders, the database, the few rows deleted and those updated.
    assert.equal((await narrow({ table: 'orders', rows: 1, updates: true })).length, orders.length + 4)
    const [first, last] = [losses[0]!, losses.at(-1)!]
    assert.deepEqual(
      await narrow({ from: { kind: 'time', time: last.time } }),
      found.filter((text) => text.endsWith(`${last.xid}`)),
    )
    assert.deepEqual(await narrow({ to: { kind: 'lsn', lsn: first.lsn } }), [short(first)])
    const nothing = await searchTestLog(t, protection, {
      table: 'never',
      to: { kind: 'time', time: last.time },
    })
    assert.deepEqual([nothing.losses.length, nothing.summary.isKnown], [1, false], JSON.stringify(nothing.losses))
  })
}

test('pages that the log keeps compressed are read, by whichever method', async (t) => {
  const postgres = await startPostgres(t, { major: 15 })
  const protection = await protect(t)
  const following = protection.follow(postgres)
  await protection.takePoint(postgres)
  const dropped: string[] = []
  for (const method of ['pglz', 'lz4', 'zstd', 'off']) {
    await postgres.query(`alter system set wal_compression = ${method}`)
    await postgres.query('select pg_reload_conf()')
    // A new connection has the setting; after a checkpoint each page comes whole once.
    await postgres.query('checkpoint')
    await postgres.query(`create table with_${method} (n int)`)
    await postgres.query('checkpoint')
    dropped.push(`drop postgres.public.with_${method} by ${await transaction(postgres, [`drop table with_${method}`])}`)
  }
  await following.caughtUp()
  const { losses, summary } = await searchTestLog(t, protection)
  assert.deepEqual([losses.map(short), summary.notes], [dropped, []])
})

test('after a crash: what never ended is not told, and the log goes on', async (t) => {
  const postgres = await startPostgres(t, { major: 17, walSegmentMegabytes: 1 })
  await postgres.query('create table orders as select n, repeat(n::text, 100) as text from generate_series(1, 3000) n')
  const protection = await protect(t)
  const following = protection.follow(postgres)
  const first = await protection.takePoint(postgres)
  const open = await postgres.connect()
  await open.query('begin; delete from orders; drop table orders')
  await postgres.query('create table other (n int)')
  await following.caughtUp()
  await following.stop()
  await postgres.crash()
  await postgres.start()
  const again = protection.follow(postgres)
  const xid = await transaction(postgres, ['delete from orders where n <= 2000'])
  await again.caughtUp()
  const { losses } = await searchTestLog(t, protection)
  assert.deepEqual(losses.map(short), [`delete postgres.public.orders 2000 by ${xid}`])

  // Log that is missing, and what was before the first point, are named.
  const { segments } = await protection.repository.log('db').list()
  const missing = segments.at(-2)
  assert.ok(missing)
  await protection.storage.delete(`log/db/segments/${missing.branch}/${missing.name}`)
  const gap = await searchTestLog(t, protection, { from: { kind: 'time', time: '2020-01-01T00:00:00Z' } })
  assert.ok(
    gap.summary.notes.some((note) => note.startsWith('GAP from ')),
    gap.summary.notes.join(),
  )
  assert.ok(gap.summary.notes.some((note) => note.startsWith('The first point is of ')))
  assert.deepEqual(
    gap.summary.searched.map(({ point }) => point),
    [first.id],
  )
})

test('two timelines: what each lost is told once, with an --at only where a restore takes that way', async (t) => {
  const original = await startPostgres(t, { major: 15, walSegmentMegabytes: 1 })
  await original.query('create table one (n int); create table two (n int); create table three (n int)')
  const protection = await protect(t)
  const following = protection.follow(original)
  await protection.takePoint(original)
  const zero = await transaction(original, ['drop table three'])
  const first = await transaction(original, ['drop table one'])
  await original.query('create table later (n int)')
  const second = await transaction(original, ['drop table later'])
  await following.caughtUp()
  await following.stop()
  await original.stop()
  const lost = (await searchTestLog(t, protection)).losses
  assert.deepEqual(
    lost.map(({ xid }) => xid),
    [zero, first, second],
  )

  const { postgres: copy } = await protection.recover(original, parseMoment(lost[1]?.at ?? ''))
  const onward = protection.follow(copy)
  const third = await transaction(copy, ['drop table one', 'drop table two'])
  await onward.caughtUp()
  await onward.stop()
  const { losses } = await searchTestLog(t, protection)
  const told = losses.map(({ xid, timeline, table, at }) => `${xid} ${timeline} ${table} ${at !== null}`).sort()
  assert.deepEqual(
    told,
    [
      `${zero} 1 three true`,
      // Its own end is on the way that was left, the moment before it on both.
      `${first} 1 one true`,
      `${second} 1 later false`,
      `${third} 2 one true`,
      `${third} 2 two true`,
    ].sort(),
  )
  const { postgres: again } = await protection.recover(original, parseMoment(losses.at(-1)?.at ?? ''))
  assert.deepEqual(await again.query('select count(*)::int as n from one'), [{ n: 0 }])
})
