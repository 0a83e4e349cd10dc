import assert from 'node:assert/strict'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type pg from 'pg'
import { copyIn, copyOut } from '../../src/sources/postgres/protocol/copy.ts'
import { type CommandResult, jsonLines } from '../support/command.ts'
import { runInProcess } from '../support/own-process.ts'
import { startPostgres, suiteScope, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'

/** Two tenants in one database, by the commands that a person types. Every text of theirs says whose it is: A- or B-. */

const ANN = 'A-ann@example.org'
const BOB = `B-o'brien "co"`

const SCHEMA = `
create schema app;
create type app.mood as enum ('glad', 'sad');
create table app.plans (code text primary key, parent text references app.plans, price money);
create table app.accounts (id int primary key, owner text not null unique, plan text not null references app.plans, boss int,
  tag text unique, manager text, likes text);
create table app.users (account int not null references app.accounts on delete cascade, n int, email text, mood app.mood,
  primary key (account, n));
alter table app.accounts add foreign key (id, boss) references app.users (account, n);
create table app.nodes (id bigint generated always as identity primary key, account int references app.accounts,
  parent bigint references app.nodes on delete cascade, label text, raw bytea, doc json, shout text generated always as (upper(label)) stored);
create table app.messages (id serial primary key, account int not null, n int not null, to_account int, to_n int, body text,
  foreign key (account, n) references app.users on delete cascade, foreign key (to_account, to_n) references app.users on delete cascade);
create table app.events (owner text, at timestamptz not null, what text) partition by range (at);
create table app.events_old partition of app.events for values from ('2020-01-01') to ('2026-01-01');
create table app.events_new partition of app.events for values from ('2026-01-01') to ('2030-01-01');
create table app.first (id int primary key, account int references app.accounts, second int);
create table app.second (id int primary key, first int not null references app.first);
alter table app.first add foreign key (second) references app.second;
create table app.debit (account int not null references app.accounts, id int, amount int, primary key (account, id));
create table app.credit (account int not null references app.accounts, id int, amount int, primary key (account, id));
create table app.strangers (n int);
create function app.stamp() returns trigger language plpgsql as $f$ begin new.body := new.body || ' stamped'; return new; end $f$;
create trigger stamp before insert or update on app.messages for each row execute function app.stamp();
`

const ROWS = `
set session_replication_role = replica;
insert into app.plans values ('basic', null, 1.5), ('silver', 'basic', 20), ('gold', 'silver', 300), ('unused', null, 0);
insert into app.accounts (id, owner, plan, boss) values (1, '${ANN}', 'gold', 3), (2, '${BOB.replaceAll("'", "''")}', 'basic', 1);
insert into app.users select a, g, chr(64 + a) || '-user ' || g, case g % 2 when 0 then 'glad' else 'sad' end::app.mood from generate_series(1, 2) a, generate_series(1, 20) g;
insert into app.nodes (account, parent, label, raw, doc) values
  (1, null, E'A-root\\t\\\\.\\n\\r', '\\x00ff', '{"a" :  1, "a": 2}'), (null, 1, 'A-child', '', null), (null, 2, 'A-grandchild', null, 'null'),
  (2, null, 'B-root', null, null), (null, 4, 'B-child', null, null), (null, null, 'nobody', null, null);
insert into app.messages (account, n, to_account, to_n, body) select 1, g, 1, g + 1, 'A-in ' || g from generate_series(1, 10) g;
insert into app.messages (account, n, to_account, to_n, body) select 2, g, 1, g, 'B-to ann ' || g from generate_series(1, 4) g;
insert into app.messages (account, n, body) select 2, g, 'B-alone ' || g from generate_series(1, 4) g;
insert into app.events select owner, '2025-12-30 00:00+00'::timestamptz + g * interval '1 hour', left(owner, 2) || 'event ' || g from app.accounts, generate_series(1, 100) g;
insert into app.events values (null, '2026-05-05', 'nobody');
insert into app.first values (1, 1, 1), (2, 2, 2), (3, null, 1);
insert into app.second values (1, 1), (2, 2), (3, 3);
insert into app.debit select a, g, 100 from generate_series(1, 2) a, generate_series(1, 50) g;
insert into app.credit select a, g, 100 from generate_series(1, 2) a, generate_series(1, 50) g;
insert into app.strangers values (1);
set session_replication_role = origin;
`

const TABLES = [
  'plans',
  'accounts',
  'users',
  'nodes',
  'messages',
  'events',
  'first',
  'second',
  'debit',
  'credit',
  'strangers',
]
const DELETE_ANN = `
set session_replication_role = replica;
delete from app.first where id in (1, 3); delete from app.second where id in (1, 3); delete from app.debit where account = 1;
delete from app.credit where account = 1; delete from app.events where owner = '${ANN}'; delete from app.messages where account = 1;
delete from app.nodes where label like 'A-%'; delete from app.accounts where id = 1; delete from app.users where account = 1;
set session_replication_role = origin;`

describe('tenants', { concurrency: false }, () => {
  const suite = suiteScope()
  let postgres: TestPostgres
  let client: pg.Client
  let cwd: string
  /** All rows before anything was restored. */
  let original: Record<string, string[]>

  before(async () => {
    postgres = await startPostgres(suite, { major: 17 })
    await postgres.query('create database shop')
    client = await postgres.connect('shop')
    await client.query(SCHEMA)
    await client.query(ROWS)
    await postgres.query('create role app login; create role guarded login')
    cwd = await temporaryDirectory(suite)
    await configure()
    done(await regain('init', '--yes'))
  })

  async function configure(user = 'postgres', more = ''): Promise<void> {
    const url = postgres.url('shop').replace('postgres@', `${user}@`)
    const text = `version: 1
destinations: { one: { type: local, path: one }, two: { type: local, path: two } }
keys: { main: { type: file, path: main.key }, next: { type: file, path: next.key } }
services:
  shop:
    key: main
    retention: keep-all
    sources: { accounts: { type: postgres-tenants, url: "${url}", tenants: { table: accounts, key: owner, columns: [owner]${more} } } }
`
    await writeFile(join(cwd, 'regain.yaml'), text)
  }

  async function regain(...args: string[]) {
    const { PATH = '' } = process.env
    const env = { PATH, HOME: cwd, XDG_STATE_HOME: join(cwd, 'state') }
    const result = await runInProcess(['--config', join(cwd, 'regain.yaml'), ...args, '--json'], env)
    const lines = jsonLines(result.stdout)
    const warnings = lines.filter(({ type }) => type === 'warning').map(({ message }) => String(message))
    return { ...result, lines, last: lines.at(-1) ?? {}, warnings: warnings.join('\n') }
  }

  async function content(from = client): Promise<Record<string, string[]>> {
    const found: Record<string, string[]> = {}
    for (const table of TABLES) {
      const { rows } = await from.query<{ row: string }>(
        `select t.tableoid::regclass || t::text as row from app.${table} t order by 1`,
      )
      found[table] = rows.map(({ row }) => row)
    }
    return found
  }

  test('are each backed up at one moment, beside writers, with nothing of another tenant', async () => {
    const writing = new AbortController()
    // What is taken from one table is added to another: at any one moment the sum is the same.
    const writers = [1, 2].map(async (account) => {
      const own = await postgres.connect('shop')
      for (let i = 0; !writing.signal.aborted; i++)
        await own.query(
          `begin; update app.debit set amount = amount - 1 where account = ${account} and id = ${1 + (i % 50)};
           update app.credit set amount = amount + 1 where account = ${account} and id = ${1 + (i % 50)}; commit`,
        )
    })
    const backup = await regain('backup', 'shop')
    writing.abort()
    await Promise.all(writers)
    done(backup)
    original = await content()
    assert.match(backup.warnings, /4 rows of tenants refer by app\.messages \(messages_to_account_to_n_fkey\)/)
    assert.match(backup.warnings, /1 rows of app\.events are of no tenant/)
    assert.match(backup.warnings, /1 rows of app\.nodes are of no tenant/)

    const { last } = await regain('tenants', 'shop')
    const tenants = last.tenants as { tenant: string; name: string; destination: string; state: string }[]
    const one = tenants.filter(({ destination }) => destination === 'one')
    assert.deepEqual(one.map(({ tenant }) => tenant).sort(), [ANN, BOB])
    // The same name at the copy, which says nothing of the tenant.
    assert.deepEqual(tenants.map(({ name }) => name).sort(), one.flatMap(({ name }) => [name, name]).sort())
    const places = await readdir(cwd, { recursive: true })
    assert.ok(places.some((path) => path.endsWith(`two/${one[0]!.name}/repository.json`)))
    assert.ok(!places.some((path) => /ann|brien/.test(path)))

    for (const [tenant, own, other] of [
      [ANN, 'A-', 'B-'],
      [BOB, 'B-', 'A-'],
    ] as const) {
      const directory = join(cwd, `files ${own}`)
      done(await regain('restore', 'shop/accounts', '--tenant', tenant, '--to', directory, '--destination', 'two'))
      const files = (await readdir(directory, { recursive: true })).filter((path) => path.endsWith('.copy'))
      const texts = await Promise.all(files.map((path) => readFile(join(directory, path), 'utf8')))
      assert.ok(texts.join('').includes(own) && !texts.join('').includes(other), tenant)
      const amounts = ['debit', 'credit'].flatMap((table) =>
        texts[files.indexOf(`owned/app.${table}.copy`)]!.trim()
          .split('\n')
          .map((line) => Number(line.split('\t')[2])),
      )
      assert.equal(amounts.length, 100)
      assert.equal(
        amounts.reduce((sum, amount) => sum + amount),
        10_000,
      )
      const plans = texts[files.indexOf('reference/app.plans.copy')]!
      assert.deepEqual(plans.includes('gold') && plans.includes('silver'), tenant === ANN)
      assert.ok(plans.includes('basic') && !plans.includes('unused'))
    }
    // One alone, as it is now.
    done(await regain('backup', 'shop/accounts', '--tenant', ANN))
  })

  test('come back as they were, to the byte, where they are gone, and others stay as they are', async () => {
    await client.query(DELETE_ANN)
    await client.query(`delete from app.plans where code = 'gold'`)
    await client.query(`update app.plans set price = 21 where code = 'silver'; select setval('app.messages_id_seq', 1)`)
    assert.ok((await content()).users!.length === 20)
    const restore = await regain('restore', 'shop/accounts', '--tenant', ANN, '--to', postgres.url('shop'))
    done(restore)
    const now = await content()
    // What somebody changed of what is nobody's stays changed.
    assert.ok(now.plans!.some((row) => row.includes('$21.00')))
    await client.query(`update app.plans set price = 20 where code = 'silver'`)
    assert.deepEqual(await content(), original)
    const { rows } = await client.query(
      `select nextval('app.messages_id_seq') as next, nextval('app.nodes_id_seq') as node`,
    )
    assert.deepEqual(rows, [{ next: '11', node: '7' }])
    const { rows: triggers } = await client.query(`select tgenabled from pg_trigger where tgname = 'stamp'`)
    assert.deepEqual(triggers, [{ tgenabled: 'O' }])
  })

  test('are replaced only if that is said twice, and not if a row of another would be changed', async () => {
    const refused = await regain('restore', 'shop/accounts', '--tenant', ANN, '--to', postgres.url('shop'))
    assert.equal(refused.status, 6)
    assert.match(String(refused.last.message), /20 in app\.users/)
    const mistaken = await regain(
      'restore',
      'shop/accounts',
      '--tenant',
      ANN,
      '--overwrite',
      BOB,
      '--to',
      postgres.url('shop'),
    )
    assert.equal(mistaken.status, 2)

    // Newer than the point, changed, deleted, and renamed to what another had.
    await client.query(`
      set session_replication_role = replica;
      insert into app.users values (1, 99, 'A-newer'); update app.users set email = 'A-changed' where account = 1 and n = 5;
      insert into app.messages (id, account, n, body) values (900, 1, 99, 'A-newer'); delete from app.messages where id = 2;
      update app.accounts set boss = 99 where id = 1; delete from app.events where owner = '${ANN}' and at < '2025-12-31';
      insert into app.events values ('${ANN}', '2026-01-01', 'A-event 48'); update app.nodes set parent = 1 where id = 3;
      insert into app.messages (id, account, n, to_account, to_n, body) values (901, 2, 1, 1, 99, 'B-to newer');
      set session_replication_role = origin`)
    const before = await content()
    const overwrite = ['restore', 'shop/accounts', '--tenant', ANN, '--overwrite', ANN, '--to', postgres.url('shop')]
    const preview = await regain(...overwrite, '--preview')
    done(preview)
    assert.match(JSON.stringify(preview.last), /REPLACE 21 rows of this tenant in app\.users by the 20/)
    const hurting = await regain(...overwrite)
    assert.equal(hurting.status, 6)
    assert.match(String(hurting.last.message), /1 rows of app\.messages by messages_to_account_to_n_fkey/)
    assert.deepEqual(await content(), before)

    await client.query('delete from app.messages where id = 901')
    // A row of another that followed a value which is to be set back would follow it again.
    await client.query(`alter table app.accounts add foreign key (manager) references app.accounts (owner) on update cascade;
      update app.accounts set manager = '${ANN}' where id = 2; update app.accounts set owner = 'A-renamed' where id = 1;
      update app.accounts set owner = '${ANN}' where id = 1; update app.accounts set tag = 'A-newer' where id = 1;
      alter table app.accounts add foreign key (likes) references app.accounts (tag) on update cascade;
      update app.accounts set likes = 'A-newer' where id = 2`)
    const following = await regain(...overwrite)
    assert.equal(following.status, 6)
    assert.match(String(following.last.message), /: 1 rows of app\.accounts by accounts_likes_fkey\./)
    await client.query('update app.accounts set likes = null, manager = null where id = 2')
    done(await regain(...overwrite))
    assert.deepEqual(await content(), original)
  })

  test('into other tables: what can not be kept is refused by column, and nothing is changed', async () => {
    await postgres.query('create database other')
    const other = await postgres.connect('other')
    await other.query(SCHEMA)
    await other.query(
      `alter table app.users drop column mood, add must int not null; alter table app.nodes rename to branches`,
    )
    const restore = ['restore', 'shop/accounts', '--tenant', ANN, '--to', postgres.url('other')]
    const refused = await regain(...restore)
    assert.equal(refused.status, 6)
    assert.match(
      String(refused.last.message),
      /no table app\.nodes\..*app\.users has no column mood.*The column must of app\.users is new/,
    )
    await other.query(
      `alter table app.branches rename to nodes; alter table app.users drop column must, add mood varchar(3)`,
    )
    const changed = await regain(...restore)
    assert.equal(changed.status, 6, JSON.stringify(changed.last))
    assert.match(String(changed.last.message), /value too long for type character varying\(3\)/)
    // As long as the texts are the same, another type is told, and is no hindrance.
    await other.query(`alter table app.users alter mood type text; alter table app.users add remark text default 'new'`)
    await other.query(
      `alter table app.debit alter amount type smallint; alter table app.credit alter amount type numeric(10, 2)`,
    )
    const differing = await regain(...restore)
    assert.equal(differing.status, 4)
    assert.match(String(differing.last.message), /app\.credit \(50 rows, 50 in the point\)/)
    const { rows } = await other.query('select count(*) from app.accounts')
    assert.deepEqual(rows, [{ count: '0' }])
    await other.query('alter table app.credit alter amount type int')
    const restored = await regain(...restore)
    done(restored)
    const { accounts, messages } = await content(other)
    assert.deepEqual([accounts!.length, messages!.length], [1, 10])
    await other.end()
  })

  test('what is asked wrongly is said', async () => {
    const unknown = await regain('restore', 'shop/accounts', '--tenant', 'A-nobody', '--to', join(cwd, 'x'))
    assert.equal(unknown.status, 6)
    assert.match(String(unknown.last.message), /never had a point of a tenant A-nobody/)
    const whole = await regain('restore', 'shop/accounts', '--to', postgres.url('shop'))
    assert.equal(whole.status, 2)
    await configure('app')
    assert.match(String((await regain('backup', 'shop')).last.message), /permission denied/)
    const check = await regain('check', 'shop')
    assert.match(JSON.stringify(check.last), /app may not read app\.accounts/)
    await client.query(`grant usage on schema app to guarded; grant select on all tables in schema app to guarded;
      create policy own on app.users using (account = 1); alter table app.users enable row level security`)
    await configure('guarded')
    // A policy would have left rows out without a word.
    assert.match(String((await regain('backup', 'shop')).last.message), /row-level security policy/)
    await client.query('alter table app.users disable row level security')
    await configure('postgres', ', shared: [users]')
    assert.match(JSON.stringify(await regain('check', 'shop')), /In no point: [^"]*app\.messages/)
    await configure()
  })

  test('are verified, change their key with their service, and are gone with keys of their own', async () => {
    const { last } = await regain('tenants', 'shop')
    const names = new Map(
      (last.tenants as { tenant: string; name: string }[]).map(({ tenant, name }) => [tenant, name]),
    )
    const verified = await regain('verify', 'shop', '--read-data')
    done(verified)
    assert.deepEqual(
      verified.lines
        .filter(({ type }) => type === 'result')
        .map(({ service }) => service)
        .sort(),
      ['shop', 'shop', ...[...names.values()].flatMap((name) => [name, name])].sort(),
    )
    done(await regain('prune', 'shop'))

    done(await regain('key', 'rotate', 'shop', 'next'))
    await writeFile(
      join(cwd, 'regain.yaml'),
      (await readFile(join(cwd, 'regain.yaml'), 'utf8')).replace('key: main', 'key: next'),
    )
    // One that lost its place is not passed over.
    const lost = join(cwd, 'two', names.get(BOB)!)
    await rename(lost, `${lost}-away`)
    const missing = await regain('verify', 'shop')
    assert.equal(missing.status, 4)
    assert.match(JSON.stringify(missing.lines), new RegExp(`no repository of ${names.get(BOB)!}`))
    await rename(`${lost}-away`, lost)
    const destroy = ['key', 'destroy', 'shop/accounts', '--tenant', ANN, '--yes-destroy-all-data']
    assert.equal((await regain(...destroy, BOB)).status, 2)
    done(await regain(...destroy, ANN))
    const gone = await regain('restore', 'shop/accounts', '--tenant', ANN, '--to', join(cwd, 'gone'))
    assert.equal(gone.status, 4)
    assert.match(String(gone.last.message), /destroyed/)
    const listed = (await regain('tenants', 'shop')).last.tenants as {
      tenant: string | null
      name: string
      state: string
    }[]
    assert.deepEqual(
      listed.map(({ tenant, state }) => [tenant, state]).sort(),
      [
        [null, 'destroyed'],
        [null, 'destroyed'],
        [BOB, 'kept'],
        [BOB, 'kept'],
      ].sort(),
    )
    done(await regain('restore', 'shop/accounts', '--tenant', BOB, '--to', join(cwd, 'bob')))
    done(await regain('verify', 'shop'))
    // Rows that are still there are not taken under new keys without a word.
    const after = await regain('backup', 'shop')
    assert.equal(after.status, 3)
    assert.deepEqual(
      (after.last.missed as { path: string }[]).map(({ path }) => `shop.accounts.${path}`),
      [names.get(ANN)],
    )
    done(await regain('backup', 'shop/accounts', '--tenant', BOB))
    // The secret that makes their names comes back from the other destination; without any there are no new names.
    const secretAt = (place: string) => join(cwd, place, 'shop/log/accounts/histories/tenants')
    await rm(secretAt('one'))
    assert.equal((await regain('backup', 'shop')).status, 3)
    await rm(secretAt('one'))
    await rm(secretAt('two'))
    const nameless = await regain('backup', 'shop')
    assert.equal(nameless.status, 4, JSON.stringify(nameless.last))
    assert.match(String(nameless.last.message), /has lost the secret/)
  })

  test('COPY: whatever fails on the way is what is told, and the connection goes on where it can', async () => {
    const own = await postgres.connect('shop')
    const rows = 'copy (select g, repeat(md5(g::text), 30) from generate_series(1, 20000) g) to stdout'
    let bytes = 0
    let isTaking = false
    await copyOut(own, rows, async (piece) => {
      assert.ok(!isTaking)
      isTaking = true
      await setImmediate()
      bytes += piece.length
      isTaking = false
    })
    assert.equal(bytes, 19_328_894)
    await assert.rejects(
      copyOut(own, 'copy (select 1 / (3 - g) from generate_series(1, 5) g) to stdout', async () => undefined),
      /division by zero/,
    )
    await own.query('create temp table numbers (n int, t text)')
    const pieces = async function* (last: string) {
      for (let i = 0; i < 400; i++) yield Buffer.from(`${i}\t${'x'.repeat(20_000)}\n`)
      yield Buffer.from(last)
      for (let i = 0; i < 400; i++) yield Buffer.from(`${i}\t${'x'.repeat(20_000)}\n`)
    }
    await copyIn(own, 'copy numbers from stdin', pieces('7\t\\N\n'))
    await assert.rejects(copyIn(own, 'copy numbers from stdin', pieces('seven\t\n')), /invalid input syntax/)
    const failing = async function* () {
      yield* pieces('8\t\\N\n')
      throw new Error('the reader failed')
    }
    await assert.rejects(copyIn(own, 'copy numbers from stdin', failing()), /the reader failed/)
    assert.deepEqual((await own.query('select count(*), count(t) as texts from numbers')).rows, [
      { count: '801', texts: '800' },
    ])
    await assert.rejects(
      copyOut(own, rows, async () => {
        throw new Error('the taker failed')
      }),
      /the taker failed/,
    )
    await assert.rejects(own.query('select 1'))
  })
})

function done(result: CommandResult): void {
  assert.equal(result.status, 0, `${result.stdout}\n${result.stderr}`)
}
