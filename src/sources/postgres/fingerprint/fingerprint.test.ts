import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { startPostgres, suiteScope, type TestPostgres } from '../../../../test/support/postgres.ts'
import type { Fingerprint } from '../../../model.ts'
import { compareFingerprints } from '../../fingerprint.ts'
import { parseConnectionUrl } from '../protocol/connection-url.ts'
import { type TakeFingerprint, takeFingerprint } from './take-fingerprint.ts'

const ODD = `
create extension if not exists plpgsql;
create type mood as enum ('glad', 'sad');
create domain posint as int check (value > 0);
create table customers (id int primary key, name varchar(20) check (name in ('a', 'b')), mood mood, n posint);
create table orders (id bigint generated always as identity, customer int references customers, price numeric(10, 2) default 1.5);
create index on orders (customer, lower(price::text));
create table parted (region text, n int) partition by list (region);
create table parted_n partition of parted for values in ('n');
create view glad as select * from customers where mood = 'glad';
create function twice(n int) returns int language sql as 'select 2 * n';
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger touch before update on customers for each row execute function touch();
create unlogged table scratch (n int);
create table "Odd.*name""x" (n int);
insert into customers values (1, 'a', 'glad', 1), (2, 'b', 'sad', 2);
insert into parted select 'n', n from generate_series(1, 77) n;
`

describe('the fingerprint of a server', () => {
  let postgres: TestPostgres
  let request: TakeFingerprint
  const suite = suiteScope()

  before(async () => {
    postgres = await startPostgres(suite, { major: 13 })
    await postgres.query(ODD)
    await postgres.query('select lo_create(0)')
    request = { config: parseConnectionUrl(postgres.url()), signal: suite.signal, now: Date.now }
  })

  it('counts every table, and says how', async () => {
    const { databases, lsn, at } = await takeFingerprint(request)
    assert.match(lsn ?? '', /^[0-9A-F]+\/[0-9A-F]+$/)
    assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000)
    const [database, ...rest] = databases
    assert.deepEqual(rest, [])
    assert.deepEqual([database?.name, database?.tables, database?.largeObjects], ['postgres', 5, 1])
    const counts = Object.fromEntries(database!.counts.map(({ table, rows, how }) => [table, [rows, how]]))
    assert.deepEqual(counts, {
      'public.customers': [2, 'exact'],
      'public.orders': [0, 'exact'],
      'public.parted_n': [77, 'exact'],
      'public.scratch': [0, 'exact'],
      'public."Odd.*name""x"': [0, 'exact'],
    })
    assert.deepEqual(compareFingerprints(await takeFingerprint(request), { at, databases }, { sameMoment: true }), [])
  })

  it('names what a copy lacks: rows, a table, a definition, a large object, a database', async () => {
    const before = await takeFingerprint(request)
    const changes: [string, string, string[]][] = [
      ['delete from parted where n = 5', "insert into parted values ('n', 5)", ['rows public.parted_n']],
      [
        'alter table orders alter price type numeric(11, 2)',
        'alter table orders alter price type numeric(10, 2)',
        ['schema'],
      ],
      ['alter function twice(int) stable', 'alter function twice(int) volatile', ['schema']],
      [
        'alter table scratch rename to elsewhere',
        'alter table elsewhere rename to scratch',
        ['schema', 'table-missing public.scratch'],
      ],
      ['select lo_create(4711)', 'select lo_unlink(4711)', ['large-objects']],
      ['drop index orders_customer_lower_idx', 'create index on orders (customer, lower(price::text))', ['schema']],
    ]
    for (const [change, back, expected] of changes) {
      await postgres.query(change)
      const found = compareFingerprints(before, await takeFingerprint({ ...request, like: before }), {
        sameMoment: true,
      })
      assert.deepEqual(found.map(({ what, table }) => `${what} ${table ?? ''}`.trim()).sort(), expected, change)
      await postgres.query(back)
      assert.deepEqual(compareFingerprints(before, await takeFingerprint(request), { sameMoment: true }), [], back)
    }
    const [gone] = compareFingerprints(before, { ...before, databases: [] }, { sameMoment: true })
    assert.equal(gone?.what, 'database-missing')
  })

  it('estimates what the role may not read, what is locked, and what no time is left for; never fewer rows by a policy', async (t) => {
    await postgres.query('analyze; create role watcher login; grant select on customers, parted_n to watcher')
    await postgres.query('alter table customers enable row level security')
    const holder = await postgres.connect()
    await holder.query('begin; lock table parted_n')
    const url = postgres.url().replace('postgres@', 'watcher@')
    const { databases } = await takeFingerprint({ ...request, config: parseConnectionUrl(url), signal: t.signal })
    const counts = new Map(databases[0]!.counts.map((count) => [count.table, count]))
    assert.deepEqual(counts.get('public.customers'), { table: 'public.customers', rows: 2, how: 'estimated' })
    assert.deepEqual(counts.get('public.parted_n'), { table: 'public.parted_n', rows: 77, how: 'estimated' })
    await holder.query('rollback')
    await postgres.query('alter table customers disable row level security')

    let looks = 0
    // Time is up when the first table is about to be counted; and at once.
    const late = await takeFingerprint({ ...request, now: () => (++looks > 3 ? 1e9 : 0) })
    assert.ok(late.databases[0]!.counts.every(({ how }) => how === 'estimated'))
    assert.match(late.databases[0]!.schema, /^[0-9a-f]{64}$/)
    const none = await takeFingerprint({ ...request, maxMs: 0 })
    assert.match(none.databases[0]!.problem ?? '', /no time/)
    const unknown = compareFingerprints(late, none, { sameMoment: true })
    assert.deepEqual(
      unknown.map(({ what }) => what),
      ['not-compared'],
    )
  })

  it('samples a large table, near enough', async () => {
    await postgres.query(
      'create table large as select n, repeat(md5(n::text), 30) as filler from generate_series(1, 80000) n',
    )
    const { databases } = await takeFingerprint(request)
    const [large] = databases[0]!.counts
    assert.deepEqual([large?.table, large?.how], ['public.large', 'sampled'])
    assert.ok(Math.abs((large?.rows ?? 0) - 80_000) < 8000, `${large?.rows} of 80000`)
    await postgres.query('drop table large')
  })
})

describe('comparing fingerprints', () => {
  const one = (rows: number | null, how: 'exact' | 'sampled' | 'estimated' | 'left-out'): Fingerprint => ({
    at: '2026-01-01T00:00:00.000Z',
    databases: [
      {
        name: 'shop',
        schema: '00',
        tables: 1,
        largeObjects: 0,
        counts: [{ table: 'public.t', rows, how }],
        others: { tables: 0, rows: 0 },
      },
    ],
  })
  for (const [expected, found, sameMoment, isSame] of [
    [one(5, 'exact'), one(5, 'exact'), true, true],
    [one(5, 'exact'), one(6, 'exact'), true, false],
    [one(5, 'exact'), one(6, 'exact'), false, true],
    [one(100_000, 'exact'), one(0, 'exact'), false, false],
    [one(100_000, 'sampled'), one(90_000, 'exact'), true, true],
    [one(100_000, 'sampled'), one(60_000, 'exact'), true, false],
    [one(100_000, 'estimated'), one(60_000, 'exact'), true, true],
    [one(100_000, 'estimated'), one(30_000, 'exact'), true, false],
    [one(0, 'left-out'), one(30_000, 'exact'), true, true],
    [one(null, 'estimated'), one(7, 'exact'), true, true],
  ] as const)
    it(`${JSON.stringify(expected.databases[0]!.counts)} and ${JSON.stringify(found.databases[0]!.counts)}, same moment: ${sameMoment}`, () => {
      assert.equal(compareFingerprints(expected, found, { sameMoment }).length === 0, isSame)
    })
})
