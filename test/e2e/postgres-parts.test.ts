import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, type TestContext, test } from 'node:test'
import pg from 'pg'
import { checkDatabase, resolveSelection } from '../../src/sources/postgres/parts/selection.ts'
import {
  checkTargetBefore,
  checkTargetDatabase,
  parseTargetUrl,
} from '../../src/sources/postgres/parts/target-database.ts'
import { parseLsn } from '../../src/sources/postgres/protocol/lsn.ts'
import { type CommandResult, jsonLines, LAUNCHER, runCommand, startCommand } from '../support/command.ts'
import { startPostgres, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'

/** Tables, a schema, a database out of a physical point, at moments between points, by the command that a person types. */

let postgres: TestPostgres
let cwd: string
let scratch: string
let environment: Record<string, string>
/** Position before the mistake. */
let good: string

const SHOP = `
create role owner_of_orders;
create role reader;
create table public.customers (id int primary key, name text not null);
create type public.mood as enum ('glad', 'sad');
create sequence public.numbers;
create table public.orders (
  id bigint generated always as identity primary key, customer int not null references public.customers,
  mood public.mood not null, number bigint default nextval('public.numbers'), note jsonb, raw bytea, at timestamptz not null
);
alter table public.orders owner to owner_of_orders;
grant select on public.orders to reader;
create index on public.orders (customer, at);
create schema sales;
create table sales.parted (region text, amount numeric) partition by list (region);
create table sales.north partition of sales.parted for values in ('north');
create table sales.south partition of sales.parted for values in ('south');
create function sales.twice(n int) returns int language sql as 'select 2 * n';
create unlogged table sales.scratch (n int);
create table public."Odd.*name""x" (n int);
`
const ROWS = `
insert into public.customers select n, 'customer ' || n from generate_series(1, 50) n;
insert into public.orders (customer, mood, note, raw, at)
  select 1 + n % 50, case n % 2 when 0 then 'glad' else 'sad' end::public.mood, jsonb_build_object('n', n, 'text', E'tab\\tquote''s'),
    decode(md5(n::text), 'hex'), '2026-01-01Z'::timestamptz + n * interval '1 minute' from generate_series(1, 3000) n;
insert into sales.parted select case n % 2 when 0 then 'north' else 'south' end, n / 7.0 from generate_series(1, 100) n;
insert into public."Odd.*name""x" values (42);
insert into sales.scratch values (1);
`

before(async (t) => {
  const scope = { signal: (t as TestContext).signal, after: (t as TestContext).after.bind(t) }
  postgres = await startPostgres(scope, { major: 15, settings: { max_prepared_transactions: '2' } })
  await postgres.query('create database shop')
  await sql(postgres.url('shop'), SHOP)
  cwd = await temporaryDirectory(scope)
  scratch = await temporaryDirectory(scope)
  const { PATH = '' } = process.env
  environment = { PATH, HOME: cwd, XDG_STATE_HOME: join(cwd, 'state'), TMPDIR: scratch }
  await writeFile(
    join(cwd, 'regain.yaml'),
    `version: 1
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
  shop: { retention: keep-all, sources: { db: { type: postgres, url: "${postgres.url('shop')}" }, notes: { type: files, paths: [notes] } } }
`,
  )
  await mkdir(join(cwd, 'notes'))
  done(await regain('init', '--yes'))
  done(await regain('backup', 'shop/db'))
  const daemon = startCommand(LAUNCHER, ['serve'], { cwd, env: environment })
  // The rows are in the log alone.
  await sql(postgres.url('shop'), ROWS)
  await postgres.query("create table public.other (word text); insert into other values ('elsewhere')")
  // It keeps everybody from reading the table, and would do so for ever in a copy.
  await sql(
    postgres.url('shop'),
    "begin; lock table public.orders in access exclusive mode; prepare transaction 'held'",
  )
  const [row] = await postgres.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
  good = `lsn:${row!.lsn}`
  // The record that begins at the position is replayed too, and must not be the one that ends it.
  await postgres.query("select pg_logical_emit_message(false, 'test', 'next')")
  await sql(postgres.url('shop'), "rollback prepared 'held'")
  await sql(postgres.url('shop'), 'drop table public.orders; delete from sales.parted')
  await sql(postgres.url('shop'), 'select pg_catalog.pg_switch_wal()')
  await logReaches(row!.lsn)
  daemon.child.kill('SIGTERM')
  await daemon.result
})

/** Asks until it does, as a person would; each question takes its time. */
async function logReaches(lsn: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { last } = await regain('points', 'shop/db')
    const [source] = last.sources as { windows: { to: { position: string } }[] }[]
    if (source!.windows.some(({ to }) => parseLsn(to.position) > parseLsn(lsn))) return
  }
  assert.fail(`the log never reached ${lsn}`)
}

async function regain(...args: string[]): Promise<CommandResult & { last: Record<string, unknown>; warnings: string }> {
  const result = await runCommand(LAUNCHER, [...args, '--json'], { cwd, env: environment })
  const lines = jsonLines(result.stdout)
  const warnings = lines.filter(({ type }) => type === 'warning').map(({ message }) => String(message))
  return { ...result, last: lines.at(-1) ?? {}, warnings: warnings.join('\n') }
}

function done({ status, last, stderr }: Awaited<ReturnType<typeof regain>>): void {
  assert.equal(status, 0, JSON.stringify(last) + stderr)
}

async function sql(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<Record<string, unknown>>(text)
    return rows
  } finally {
    await client.end()
  }
}

/** What the rows were before the mistake, computed by the same statements in another database. */
async function original(name: string): Promise<string> {
  await postgres.query(`create database ${name}`)
  const url = postgres.url(name)
  await sql(url, SHOP.replace(/create role \w+;/g, ''))
  await sql(url, ROWS)
  return url
}

const ALL_ORDERS = 'select * from public.orders order by id'

/** Neither files nor processes. */
async function nothingLeft(): Promise<void> {
  assert.deepEqual(await readdir(scratch), [])
  assert.deepEqual(await servers(), [])
}

/** Processes that name the sandbox's folder. */
async function servers(): Promise<string[]> {
  const found: string[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    // It may have ended meanwhile.
    const words = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (words.includes(scratch)) found.push(words.replaceAll('\0', ' '))
  }
  return found
}

async function refusesOver(t: TestContext, url: string, schema: string | null, what: RegExp): Promise<void> {
  const check = checkTargetDatabase(parseTargetUrl(url), { database: 'shop', schema, tables: [] }, [], t.signal)
  await assert.rejects(check, { code: 'target-not-empty', message: what })
}

describe('parts of a PostgreSQL cluster', () => {
  test('a table dropped by accident comes back into SQL, and into the database it was dropped from', async (t) => {
    const file = join(cwd, 'orders.sql')
    const tables = ['--table', 'orders', '--table', '"Odd.*name""x"', '--table', 'sales.parted']
    const toFile = await regain('restore', 'shop/db', ...tables, '--at', good, '--to', 'orders.sql')
    done(toFile)
    // The rows of a partitioned table lie in its partitions.
    const expected = ['public."Odd.*name""x"', 'public.orders', 'sales.north', 'sales.parted', 'sales.south']
    assert.deepEqual(toFile.last.tables, expected)
    assert.equal(toFile.last.database, 'shop')
    assert.equal(toFile.last.target, file)
    const text = await readFile(file, 'utf8')
    assert.equal(Buffer.byteLength(text), toFile.last.bytes)
    assert.match(text, /CREATE TABLE public\.orders/)
    assert.match(text, /PostgreSQL database dump complete/)
    assert.equal(text.split('\n').filter((line) => /^(north|south)\t/.test(line)).length, 100)
    assert.match(text, /\n42\n/)
    assert.doesNotMatch(text, /CREATE TABLE public\.customers|CREATE SCHEMA sales/)
    for (const need of [
      'schema sales',
      'table public.customers',
      'type public.mood',
      'sequence public.numbers',
      'role reader',
    ])
      assert.ok(toFile.warnings.includes(need), `${need}: ${toFile.warnings}`)

    const toDatabase = await regain(
      'restore',
      'shop/db',
      '--table',
      'public.ORDERS',
      '--at',
      good,
      '--to',
      postgres.url('shop'),
    )
    done(toDatabase)
    const reference = await original('reference')
    const rows = await sql(postgres.url('shop'), ALL_ORDERS)
    assert.equal(rows.length, 3000)
    assert.deepEqual(rows, await sql(reference, ALL_ORDERS))
    const definition = `select pg_get_userbyid(relowner) as owner, relacl::text, (select count(*) from pg_index where indrelid = c.oid) as indexes,
      (select string_agg(pg_get_constraintdef(oid), ', ' order by conname) from pg_constraint where conrelid = c.oid) as constraints
      from pg_class c where oid = 'public.orders'::regclass`
    assert.deepEqual(await sql(postgres.url('shop'), definition), await sql(reference, definition))

    // And now it is there.
    const again = await regain('restore', 'shop/db', '--table', 'orders', '--at', good, '--to', postgres.url('shop'))
    assert.deepEqual([again.status, again.last.code], [6, 'target-not-empty'])
    assert.match(String(again.last.message), /public\.orders/)
    // The schema was left open, so what is there might be another table: nobody is refused for that before it is known.
    assert.match(again.warnings, /public\.orders.*will be refused/)
    const sure = checkTargetBefore(
      parseTargetUrl(postgres.url('shop')),
      { database: null, schema: null, tables: ['public.orders'] },
      {
        signal: t.signal,
        progress: () => undefined,
        warn: () => undefined,
      },
    )
    await assert.rejects(sure, { code: 'target-not-empty', message: /public\.orders/ })
    const overFile = await regain('restore', 'shop/db', '--table', 'orders', '--at', good, '--to', 'orders.sql')
    assert.deepEqual([overFile.status, overFile.last.code], [6, 'target-not-empty'])
    assert.equal(await readFile(file, 'utf8'), text)
    assert.equal((await sql(postgres.url('shop'), ALL_ORDERS)).length, 3000)
    await nothingLeft()
  })

  test('what a table refers to must be at the target; a role that is not is said', async () => {
    await postgres.query('create database empty')
    const url = postgres.url('empty')
    const refused = await regain('restore', 'shop/db', '--table', 'orders', '--at', good, '--to', url)
    assert.deepEqual([refused.status, refused.last.code], [6, 'precondition-failed'])
    for (const need of ['table public.customers', 'type public.mood', 'sequence public.numbers'])
      assert.ok(String(refused.last.message).includes(need), String(refused.last.message))
    assert.deepEqual(await sql(url, `select relname from pg_class where oid >= 16384`), [])

    await sql(url, "create type public.mood as enum ('glad', 'sad'); create sequence public.numbers")
    await sql(url, 'create table public.customers (id int primary key, name text not null)')
    // Its rows refer to customers that are not there: one transaction, so nothing stays.
    const broken = await regain('restore', 'shop/db', '--table', 'orders', '--at', good, '--to', url)
    assert.deepEqual([broken.status, broken.last.code], [6, 'precondition-failed'])
    assert.match(String(broken.last.message), /violates foreign key constraint/)
    assert.deepEqual(await sql(url, `select to_regclass('public.orders') as orders`), [{ orders: null }])
    await sql(url, 'drop table public.customers')
    done(await regain('restore', 'shop/db', '--table', 'orders', '--table', 'customers', '--at', good, '--to', url))
    assert.equal((await sql(url, ALL_ORDERS)).length, 3000)
    await nothingLeft()
  })

  test('another cluster without the roles: all of it belongs to whoever restores, and that is said', async (t) => {
    const other = await startPostgres(t, { major: 15, password: 'se"cret \\' })
    await other.query(
      "create schema sales; create type public.mood as enum ('glad', 'sad'); create sequence public.numbers",
    )
    const target = other.url('postgres')
    const result = await regain(
      'restore',
      'shop/db',
      '--table',
      'orders',
      '--table',
      'customers',
      '--at',
      good,
      '--to',
      target,
    )
    done(result)
    assert.match(result.warnings, /no role owner_of_orders/)
    assert.match(result.warnings, /No privileges.*reader/)
    assert.equal((await other.query('select from public.orders')).length, 3000)
    assert.ok(!result.stdout.includes('cret'), result.stdout)
  })

  test('a schema, with partitions and functions; what no log was written of is missed', async (t) => {
    await postgres.query('create database for_schema')
    const url = postgres.url('for_schema')
    const result = await regain('restore', 'shop/db', '--schema', 'sales', '--at', good, '--to', url)
    assert.equal(result.status, 3, JSON.stringify(result.last))
    const missed = result.last.missed as { path: string }[]
    assert.deepEqual(
      missed.map(({ path }) => path),
      ['sales.scratch'],
    )
    const found = await sql(url, 'select count(*), sales.twice(21) from sales.north')
    assert.deepEqual(found, [{ count: '50', twice: 42 }])
    await refusesOver(t, url, 'sales', /sales\.north/)

    // A schema that is there and empty, as public always is.
    await postgres.query('create database for_public')
    done(await regain('restore', 'shop/db', '--schema', 'public', '--at', good, '--to', postgres.url('for_public')))
    assert.equal((await sql(postgres.url('for_public'), ALL_ORDERS)).length, 3000)
  })

  test('a whole database into a directory and into an empty one; a table of a second database', async (t) => {
    const shop = ['restore', 'shop/db', '--database', 'shop', '--at', good, '--to']
    const whole = await regain(...shop, 'whole')
    assert.equal(whole.status, 3, JSON.stringify(whole.last))
    await postgres.query('create database loaded')
    const pgRestore = join(postgres.binaries.directory, 'pg_restore')
    const load = await runCommand(pgRestore, ['-d', postgres.url('loaded'), join(cwd, 'whole')])
    assert.equal(load.status, 0, load.stderr)
    assert.equal((await sql(postgres.url('loaded'), ALL_ORDERS)).length, 3000)

    await postgres.query('create database straight')
    const straight = await regain(...shop, postgres.url('straight'))
    assert.equal(straight.status, 3, JSON.stringify(straight.last))
    assert.equal((await sql(postgres.url('straight'), ALL_ORDERS)).length, 3000)
    await refusesOver(t, postgres.url('straight'), null, /public\.orders/)

    const other = ['--database', 'postgres', '--table', 'other', '--at', good, '--to', 'other.dump']
    done(await regain('restore', 'shop/db', ...other))
    const archive = await runCommand(pgRestore, ['-f', '-', join(cwd, 'other.dump')])
    assert.match(archive.stdout, /\nelsewhere\n/)
  })

  test('wrong names and combinations are refused with what would be right, and leave nothing', async () => {
    const table = await regain('restore', 'shop/db', '--table', 'oders', '--at', good, '--to', 'x.sql')
    assert.deepEqual([table.status, table.last.code], [6, 'precondition-failed'])
    assert.match(String(table.last.message), /near it is public\.orders/)
    const client = new pg.Client({ connectionString: postgres.url('shop') })
    await client.connect()
    try {
      const selection = { database: null, schema: 'sale', tables: [] }
      await assert.rejects(checkDatabase(client, 'shp'), /near it is shop/)
      await assert.rejects(checkDatabase(client, 'template0'), /takes no connections/)
      await assert.rejects(resolveSelection(client, 'shop', selection), /near it is sales/)
      await client.query('create table sales.customers (n int)')
      const several = resolveSelection(client, 'shop', { ...selection, schema: null, tables: ['customers'] })
      await assert.rejects(several, { code: 'usage', hint: /public\.customers, sales\.customers/ })
      await client.query('drop table sales.customers')
    } finally {
      await client.end()
    }
    for (const args of [
      ['shop/notes', '--table', 'orders'],
      ['shop/db', '--table', 'orders', '--schema', 'sales'],
      ['shop/db', '--table', 'orders', '--start'],
      ['shop/db', '--table', 'orders', '--path', '*'],
    ]) {
      const refused = await regain('restore', ...args, '--to', 'x.sql')
      assert.equal(refused.status, 2, args.join(' '))
    }
    const nameless = await regain('restore', 'shop/db', '--table', 'orders', '--to', 'postgres://postgres@localhost')
    assert.match(String(nameless.last.message), /does not name the database/)
    const away = await regain('restore', 'shop/db', '--table', 'orders', '--to', 'postgres://postgres@127.0.0.1:1/x')
    assert.equal(away.last.code, 'source-unavailable')
    assert.equal(existsSync(join(cwd, 'x.sql')), false)
    await nothingLeft()
  })

  test('--preview says point, log, space and programs, and does nothing', async () => {
    const { status, stdout } = await runCommand(
      LAUNCHER,
      ['restore', 'shop/db', '--table', 'orders', '--at', good, '--to', 'preview.sql', '--preview'],
      { cwd, env: environment },
    )
    assert.equal(status, 0)
    for (const expected of [
      /pin the point/,
      /bytes of log with PostgreSQL 15/,
      new RegExp(`sandbox in ${scratch}`),
      /pg_dump 15/,
      /preview\.sql/,
    ])
      assert.match(stdout, expected)
    assert.equal(existsSync(join(cwd, 'preview.sql')), false)
    await nothingLeft()
  })

  test('interrupted at each phase, nothing is left: no file, no server, no sandbox', async () => {
    for (const phase of ['writing', 'recovery', 'dump']) {
      const args = ['restore', 'shop/db', '--database', 'shop', '--at', good, '--to', `cut-${phase}.sql`, '--json']
      const running = startCommand(LAUNCHER, args, { cwd, env: environment })
      let seen = ''
      running.child.stdout!.on('data', (chunk: Buffer) => {
        const before = seen.includes(`"phase":"${phase}"`)
        seen += chunk.toString()
        // Once: a second signal ends it at once.
        if (!before && seen.includes(`"phase":"${phase}"`)) running.child.kill('SIGTERM')
      })
      const { status, stdout } = await running.result
      const phases = new Set(jsonLines(stdout).map((line) => line.phase))
      assert.ok(phases.has(phase), `${phase} is none of ${[...phases].join()}`)
      assert.equal(status, 130, phase)
      assert.equal(existsSync(join(cwd, `cut-${phase}.sql`)), false)
      await nothingLeft()
    }
    assert.deepEqual(
      (await readdir(cwd)).filter((name) => name.includes('.regain-')),
      [],
    )
  })
  test('killed, its server ends by itself', async () => {
    const args = ['restore', 'shop/db', '--database', 'shop', '--at', good, '--to', 'killed.sql', '--json']
    const running = startCommand(LAUNCHER, args, { cwd, env: environment })
    let seen = ''
    running.child.stdout!.on('data', (chunk: Buffer) => {
      seen += chunk.toString()
      if (seen.includes('"phase":"dump"')) running.child.kill('SIGKILL')
    })
    assert.equal((await running.result).status, null)
    for (let tries = 0; tries < 2000 && (await servers()).length > 0; tries++);
    assert.deepEqual(await servers(), [])
    assert.equal(existsSync(join(cwd, 'killed.sql')), false)
    for (const name of await readdir(scratch)) await rm(join(scratch, name), { recursive: true })
  })
})
