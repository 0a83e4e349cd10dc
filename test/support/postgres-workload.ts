import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { TestPostgres } from './postgres.ts'

/**
 * Writers whose data prove themselves: every transaction says in a ledger who made it, and what it wrote can be computed
 * from that, in types of all kinds. So of any state that comes back, the whole content can be told right or wrong, and
 * from the moments of the acknowledgements which transactions must be in it.
 */

/** Rows of each writer: a transaction replaces the one of its number modulo this. */
const SLOTS = 40
/** Every so many transactions of a writer its large object is replaced. */
const LARGE_EVERY = 7
/** The writer of tables that are truncated, dropped and rebuilt. */
const CHURN = 0

const SCHEMA = `
create type mood as enum ('sad', 'ok', 'happy');
create type span as range (subtype = float8);
create domain percent as numeric check (value between 0 and 100);
create type part as (label text, at timestamptz, moods mood[]);
create type odd_content as (
  truth boolean, tiny smallint, huge bigint, exact numeric, real4 real, real8 float8, words text, fixed char(7), bytes bytea,
  doc json, docb jsonb, id uuid, host inet, net cidr, mac macaddr, bits bit varying, day date, clock timetz, moment timestamptz, length interval,
  feeling mood, share percent, grid int[][], parts part[], spot point, shape polygon, vector tsvector, days daterange, spans span, path pg_lsn, nothing text);

create function odd(writer int, version int) returns odd_content language sql immutable set timezone = 'UTC' set extra_float_digits = 1 as $$
  select row(
    version % 3 = 0, version % 32768, version * 4294967296::bigint,
    case version % 5 when 0 then 'NaN' when 1 then '-Infinity' else version::numeric / 7 end,
    case version % 4 when 0 then 'NaN'::real when 1 then '-0'::real else version::real / 3 end, exp(version % 300),
    e'\\n\\t"\\\\ ünïcödé ☃ 𝄞 ' || repeat(md5(version::text), version % 150), (writer || 'x')::char(7),
    decode(repeat(md5((writer + version)::text) || '00ff', 1 + version % 90), 'hex'),
    format('{"b": 1, "a":  [%s, null],"a":2}', version)::json, jsonb_build_object('n', version, 'deep', jsonb_build_array(version, null, 'ß')),
    md5(version::text)::uuid, ('10.' || version % 256 || '.0.' || writer || '/24')::inet, ('2001:db8:' || version % 9999 || '::/48')::cidr,
    '08:00:2b:01:02:03'::macaddr, (version::bit(19))::bit varying,
    case version % 6 when 0 then 'infinity'::date else date '4713-01-01 BC' + version end, time with time zone '04:05:06.789-08',
    case version % 6 when 0 then '-infinity'::timestamptz else timestamptz '2000-01-01Z' + version * interval '1 microsecond' end,
    make_interval(months => version % 99, days => -version, secs => 0.001),
    (array['sad', 'ok', 'happy'])[1 + version % 3]::mood, version % 101, array[[version, null], [writer, 0]],
    array[row('l', timestamptz '1999-12-31Z', array['ok', null]::mood[])::part, null], point(version, 'Infinity'), polygon(circle(point(0, 0), 1 + version % 9)),
    to_tsvector('simple', 'word' || version || ' and more'), daterange('-infinity', date '2020-01-01' + version, '[]'), span(-1.5, version % 7),
    pg_lsn '0/0' + version, null)::odd_content
$$;
create function churn_rows(version int) returns int language sql immutable as $$ select 1 + version * 7919 % 2500 $$;

create table ledger (writer int, version int, primary key (writer, version));
create table kept (writer int, slot int, version int, content odd_content, primary key (writer, slot)) partition by hash (writer);
create table kept_0 partition of kept for values with (modulus 2, remainder 0);
create table kept_1 partition of kept for values with (modulus 2, remainder 1);
create index on kept (((content).words collate "C")) include (version) where version % 2 = 0;
create index on kept using gin (((content).docb));
create index on kept using gist (((content).days));
create index on kept using hash (((content).id));
create table churn as select 0 as version, 1 as n;
`

/** One transaction, as its writer saw it. Moments are the server's, as text that sorts. */
interface Transaction {
  writer: number
  version: number
  /** Before it committed; null: not even that is known. */
  began: string | null
  /** After it was acknowledged. Null: it never was, and may be there or not. */
  acknowledged: string | null
}

export interface Workload {
  /** All that was begun, in no order. */
  readonly transactions: readonly Transaction[]
  /** Goes on writing, on a server that has just been started. Ends by `stop`, or when the server is gone. */
  start(): Promise<void>
  stop(): Promise<void>
}

const CLOCK = `to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

export async function serverClock(postgres: TestPostgres): Promise<string> {
  const [row] = await postgres.query<{ now: string }>(`select ${CLOCK} as now`)
  return row?.now ?? ''
}

/** Makes the tables. `random` decides what is done to those that come and go. */
export async function prepareWorkload(
  postgres: TestPostgres,
  writers: number,
  random: (below: number) => number,
): Promise<Workload> {
  await postgres.query(SCHEMA)
  const transactions: Transaction[] = []
  const versions = new Map<number, number>()
  let ended = true
  let running: Promise<void>[] = []

  const write = async (client: pg.Client, writer: number): Promise<void> => {
    const version = (versions.get(writer) ?? 0) + 1
    versions.set(writer, version)
    const transaction: Transaction = { writer, version, began: null, acknowledged: null }
    transactions.push(transaction)
    await client.query('begin')
    await client.query('insert into ledger values ($1, $2)', [writer, version])
    for (const sql of writer === CHURN ? churning(version, random) : keeping(writer, version)) await client.query(sql)
    transaction.began = (await client.query<{ now: string }>(`select ${CLOCK} as now`)).rows[0]?.now ?? null
    await client.query('commit')
    transaction.acknowledged = (await client.query<{ now: string }>(`select ${CLOCK} as now`)).rows[0]?.now ?? null
    if (writer === CHURN && random(4) === 0)
      await client.query(
        ['vacuum full churn', 'vacuum churn', 'checkpoint', 'vacuum full pg_class'][random(4)] as string,
      )
  }

  const run = async (writer: number): Promise<void> => {
    const client = await postgres.connect()
    try {
      while (!ended) {
        await write(client, writer)
        // A steady load, not all that the machine can do.
        await delay(random(20))
      }
    } catch (error) {
      // The server was killed, or a writer met one that was: no other statement of these may fail.
      if (!/terminat|ECONNRESET|EPIPE|not queryable|starting up|shutting down/i.test(String(error))) throw error
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  return {
    transactions,
    async start() {
      ended = false
      running = Array.from({ length: writers + 1 }, (_, writer) => run(writer))
      for (const one of running) one.catch(() => undefined)
    },
    async stop() {
      ended = true
      await Promise.all(running)
    },
  }
}

function keeping(writer: number, version: number): string[] {
  const large = 5_000_000 + writer
  return [
    `insert into kept values (${writer}, ${version % SLOTS}, ${version}, odd(${writer}, ${version}))
     on conflict (writer, slot) do update set version = excluded.version, content = excluded.content`,
    ...(version % LARGE_EVERY === 0
      ? [
          `select lo_unlink(oid) from pg_largeobject_metadata where oid = ${large}`,
          `select lo_from_bytea(${large}, ${largeObject(`${version}`)})`,
        ]
      : []),
  ]
}

function largeObject(version: string): string {
  return `decode(repeat(md5((${version})::text), 1 + (${version}) * 37 % 2000), 'hex')`
}

/** Whatever happened to it, all rows of the table are of one version, which says how many there are. */
function churning(version: number, random: (below: number) => number): string[] {
  const rows = `select ${version} as version, n from generate_series(1, churn_rows(${version})) n`
  const ways = [
    ['truncate churn', `insert into churn ${rows}`],
    ['drop table churn', `create table churn as ${rows}`, 'create index on churn (n)'],
    ['delete from churn', `insert into churn ${rows}`],
    [`create table replacement as ${rows}`, 'drop table churn', 'alter table replacement rename to churn'],
    [
      'truncate churn',
      `insert into churn ${rows}`,
      'drop table if exists fleeting',
      'create unlogged table fleeting as select 1',
    ],
  ]
  return ways[random(ways.length)] as string[]
}

/**
 * Holds what a recovered server holds against what the writers were told. Everything acknowledged up to `from` must be
 * there, nothing that was begun after `to` may; and each row must be what its transaction wrote.
 */
export async function assertState(
  copy: TestPostgres,
  transactions: readonly Transaction[],
  moment: { from: string; to: string },
): Promise<number> {
  const there = new Set(
    (await copy.query<{ writer: number; version: number }>('select writer, version from ledger')).map(keyOf),
  )
  const begun = new Map(transactions.map((one) => [keyOf(one), one]))
  const due = transactions.filter(({ acknowledged }) => acknowledged !== null && acknowledged <= moment.from)
  assert.deepEqual(
    due.filter((one) => !there.has(keyOf(one))),
    [],
    'acknowledged and lost',
  )
  const early = [...there].filter((key) => {
    const one = begun.get(key)
    return one === undefined || one.began === null || one.began > moment.to
  })
  assert.deepEqual(early, [], 'from nowhere, or from later')
  for (const [what, sql] of Object.entries(PROOFS)) assert.deepEqual(await copy.query(sql), [], what)
  return there.size
}

function keyOf({ writer, version }: { writer: number; version: number }): string {
  return `${writer}/${version}`
}

/** Each gives the rows that are wrong. */
const PROOFS = {
  'a row that is not what was written': `
    select writer, slot, version from kept where content::text is distinct from odd(writer, version)::text`,
  'rows that do not agree with the ledger': `
    select * from (select writer, version % ${SLOTS} as slot, max(version) as version from ledger where writer > ${CHURN} group by 1, 2) l
    full join kept k using (writer, slot) where l.version is distinct from k.version`,
  'an index that does not agree with its table': `
    select a.n, b.n from (select count(*) as n, md5(string_agg(version::text, ',' order by writer, slot)) as hash from kept) a,
      lateral (select count(*) as n, md5(string_agg(version::text, ',' order by writer, slot)) as hash from kept where writer >= 0 and slot >= 0) b where a <> b`,
  'large objects that do not agree with the ledger': `
    select * from (select 5000000 + writer as oid, max(version) as version from ledger where writer > ${CHURN} and version % ${LARGE_EVERY} = 0 group by 1) l
    full join (select oid::int as oid from pg_largeobject_metadata) o using (oid)
    where o.oid is null or l.oid is null or lo_get(o.oid) is distinct from ${largeObject('l.version')}`,
  'tables that come and go, neither whole nor gone': `
    select l.version, c.* from (select coalesce(max(version), 0) as version from ledger where writer = ${CHURN}) l,
      (select min(version) as lowest, max(version) as highest, count(*) as rows, count(distinct n) as different from churn) c
    where c.lowest <> l.version or c.highest <> l.version or c.rows <> c.different
      or c.rows <> case l.version when 0 then 1 else churn_rows(l.version) end`,
}
