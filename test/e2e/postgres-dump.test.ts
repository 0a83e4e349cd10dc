import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import pg from 'pg'
import type { Fingerprint } from '../../src/model.ts'
import { type CommandResult, jsonLines, LAUNCHER, runCommand } from '../support/command.ts'
import { ODD_CONTENT, ODD_ROWS, ODD_SCHEMA } from '../support/odd-database.ts'
import { startPostgres, suiteScope, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'

/** Dumps of an old server, by the commands that a person types, and back into a newer one. */

const PROGRAMS = '/usr/lib/postgresql/15/bin'
const PASSWORD = 'p:a\\ss word'

const ROLES = `
create role shop_owner login password 'hash me';
create role "Odd ""role" nologin;
grant "Odd ""role" to shop_owner with admin option;
alter role shop_owner set work_mem = '7MB';
comment on role shop_owner is 'it''s; -- the owner';
`
const SHOP = `
${ODD_SCHEMA}
alter table public.parent owner to shop_owner;
grant select on public.child to "Odd ""role";
create table public."user" (id serial primary key, filler text);
create table public.audit_log (n int);
insert into public.audit_log values (1);
`
/** LATIN1 and SQL_ASCII, where bytes are no UTF-8. */
const BYTES = `create table t (n int, word text); insert into t values (1, convert_from('\\xe9'::bytea, 'LATIN1'));`
const ASCII = `create table t (n int, word text); insert into t values (1, E'\\xff\\xe9');`

describe('dumps', { concurrency: false }, () => {
  const suite = suiteScope()
  let old: TestPostgres
  let newer: TestPostgres
  let cwd: string
  let scratch: string
  let environment: Record<string, string>

  before(async () => {
    old = await startPostgres(suite, { major: 13, password: PASSWORD })
    newer = await startPostgres(suite, { major: 17 })
    await sql(old.url(), ROLES)
    for (const options of [
      `shop owner shop_owner`,
      `latin encoding 'LATIN1'`,
      `ascii encoding 'SQL_ASCII'`,
      `"odd/name .x"`,
    ])
      await sql(old.url(), `create database ${options} template template0 lc_collate 'C' lc_ctype 'C'`)
    await sql(
      old.url(),
      `alter database shop set work_mem = '9MB'; comment on database shop is 'the shop'; grant connect on database shop to "Odd ""role"`,
    )
    await sql(old.url('shop'), SHOP)
    await sql(old.url('shop'), ODD_ROWS)
    // More than 256 MiB would take long: what is large is decided by the server's statistics, which are a table like others.
    await sql(
      old.url('shop'),
      `insert into public."user" (filler) select repeat(md5(g::text), 20) from generate_series(1, 3000) g; vacuum analyze`.split(
        ';',
      )[0]!,
    )
    await sql(old.url('shop'), `vacuum analyze public."user"`)
    await sql(old.url('shop'), `update pg_class set relpages = 40000 where oid = 'public."user"'::regclass`)
    await sql(old.url('latin'), BYTES)
    await sql(old.url('ascii'), ASCII)
    await sql(old.url('odd/name%20.x'), 'create table t (n int); insert into t values (7)')
    cwd = await temporaryDirectory(suite)
    scratch = await temporaryDirectory(suite)
    const { PATH = '' } = process.env
    environment = { PATH, HOME: cwd, XDG_STATE_HOME: join(cwd, 'state'), TMPDIR: scratch, OLD_URL: old.url() }
    await configure(`programs: ${PROGRAMS}`)
    done(await regain('init', '--yes'))
  })

  async function configure(more: string, url = '${OLD_URL}'): Promise<void> {
    const text = `version: 1
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
  shop: { retention: keep-all, sources: { dump: { type: postgres-dump, url: "${url}", exclude: ["audit_*"], ${more} } } }
`
    await writeFile(join(cwd, 'regain.yaml'), text)
  }

  async function regain(...args: string[]) {
    const result = await runCommand(LAUNCHER, [...args, '--json'], { cwd, env: environment })
    const lines = jsonLines(result.stdout)
    const warnings = lines.filter(({ type }) => type === 'warning').map(({ message }) => String(message))
    return { ...result, last: lines.at(-1) ?? {}, warnings: warnings.join('\n') }
  }

  async function leftovers(): Promise<string[]> {
    return readdir(scratch)
  }

  test('are checked and taken, with counts, and what is left out is said', async () => {
    const check = await regain('check')
    assert.equal(check.status, 0, JSON.stringify(check.last))
    const backup = await regain('backup', 'shop')
    done(backup)
    const { last } = await regain('points', 'shop')
    const [source] = last.sources as {
      points: {
        fingerprint: Fingerprint
        positions: { databases: { name: string; leftOut: string[]; tables: unknown[] }[] }
      }[]
    }[]
    const { fingerprint, positions } = source!.points[0]!
    assert.deepEqual(
      positions.databases.map(({ name }) => name),
      ['ascii', 'latin', 'odd/name .x', 'postgres', 'shop'],
    )
    const shop = positions.databases.find(({ name }) => name === 'shop')!
    assert.deepEqual(shop.leftOut, ['public.audit_log'])
    assert.deepEqual(shop.tables, [{ table: 'public."user"', archive: 'databases/shop/table-1.dump' }])
    const counts = fingerprint.databases.find(({ name }) => name === 'shop')!.counts
    assert.deepEqual(
      counts.find(({ table }) => table === 'public."user"'),
      { table: 'public."user"', rows: 3000, how: 'exact' },
    )
    assert.equal(counts.find(({ table }) => table === 'public.audit_log')?.how, 'left-out')
    assert.deepEqual(await leftovers(), [])
    // Nothing has changed: nothing of the rows is stored again.
    const again = await regain('backup', 'shop')
    done(again)
    const bytes = again.last.bytes as { new: number; source: number }
    assert.ok(bytes.new < bytes.source / 2, JSON.stringify(bytes))
  })

  test('come back whole into a newer server, roles first, and only there where nothing is', async () => {
    const preview = await regain('restore', 'shop/dump', '--to', newer.url(), '--preview')
    done(preview)
    assert.deepEqual(await databases(newer), ['postgres'])
    const restore = await regain('restore', 'shop/dump', '--to', newer.url())
    done(restore)
    assert.match(restore.warnings, /public\.audit_log/)
    assert.deepEqual(await databases(newer), ['ascii', 'latin', 'odd/name .x', 'postgres', 'shop'])
    assert.deepEqual(await sql(newer.url('shop'), ODD_CONTENT), await sql(old.url('shop'), ODD_CONTENT))
    for (const [database, query] of [
      ['shop', 'select count(*), md5(string_agg(filler, id::text order by id)) from "user"'],
      ['shop', `select nextval('user_id_seq')`],
      ['shop', 'select tableowner from pg_tables where tablename = $$parent$$'],
      ['shop', `select has_table_privilege('Odd "role', 'child', 'select')`],
      [
        'latin',
        `select pg_encoding_to_char(encoding), convert_to(word, 'LATIN1') from t, pg_database where datname = 'latin'`,
      ],
      ['ascii', `select pg_encoding_to_char(encoding), word::bytea from t, pg_database where datname = 'ascii'`],
      ['odd/name%20.x', 'select * from t'],
      [
        'postgres',
        `select rolname, rolpassword, rolcanlogin from pg_authid where rolname in ('shop_owner', 'Odd "role') order by 1`,
      ],
      [
        'postgres',
        `select pg_has_role('shop_owner', 'Odd "role', 'member'), shobj_description(oid, 'pg_authid') from pg_authid where rolname = 'shop_owner'`,
      ],
      ['postgres', `select setconfig from pg_db_role_setting order by setdatabase`],
      [
        'postgres',
        `select datdba::regrole::text, shobj_description(oid, 'pg_database') from pg_database where datname = 'shop'`,
      ],
    ] as const)
      assert.deepEqual(await sql(newer.url(database), query), await sql(old.url(database), query), query)
    assert.deepEqual(await sql(newer.url('shop'), 'select from audit_log'), [])

    const refused = await regain('restore', 'shop/dump', '--to', newer.url())
    assert.deepEqual([refused.status, refused.last.code], [6, 'target-not-empty'])
    assert.deepEqual(await leftovers(), [])
  })

  test('come back in part: a database, a schema, a table; into a database, a file, a folder', async () => {
    const to = newer.url('rescue')
    const database = await regain('restore', 'shop/dump', '--database', 'shop', '--to', to)
    done(database)
    assert.deepEqual(await sql(to, ODD_CONTENT), await sql(old.url('shop'), ODD_CONTENT))

    await sql(newer.url(), 'create database parts')
    const parts = newer.url('parts')
    const lacking = await regain('restore', 'shop/dump', '--database', 'shop', '--table', 'child', '--to', parts)
    assert.equal(lacking.status, 6, JSON.stringify(lacking.last))
    assert.match(String(lacking.last.message), /parent/)
    assert.deepEqual(await sql(parts, `select relname from pg_class where relnamespace = 'public'::regnamespace`), [])
    await sql(parts, 'create table parent (id int primary key); insert into parent select generate_series(1, 20)')
    done(
      await regain('restore', 'shop/dump', '--database', 'shop', '--table', 'child', '--table', 'user', '--to', parts),
    )
    const rows = 'select count(*) as n, (select count(*) from "user") as users from child'
    assert.deepEqual(await sql(parts, rows), [{ n: '40', users: '3000' }])
    const indexes = `select indexdef from pg_indexes where tablename in ('child', 'user') order by 1`
    assert.deepEqual(await sql(parts, indexes), await sql(old.url('shop'), indexes))
    assert.equal(
      (await regain('restore', 'shop/dump', '--database', 'shop', '--table', 'child', '--to', parts)).last.code,
      'target-not-empty',
    )
    const schema = await regain('restore', 'shop/dump', '--database', 'shop', '--schema', 'Sales.*', '--to', parts)
    done(schema)
    assert.deepEqual(await sql(parts, 'select count(*) as n from "Sales.*"."Odd ""name"'), [{ n: '100' }])
    await sql(newer.url(), 'create database plain template template0')
    const open = await regain(
      'restore',
      'shop/dump',
      '--database',
      'latin',
      '--schema',
      'public',
      '--to',
      newer.url('plain'),
    )
    done(open)
    assert.deepEqual(await sql(newer.url('plain'), 'select word from t'), [{ word: 'é' }])
    const wrong = await regain('restore', 'shop/dump', '--database', 'shop', '--table', 'chidl', '--to', parts)
    assert.deepEqual([wrong.status, wrong.last.code], [6, 'precondition-failed'])
    assert.match(String(wrong.last.message), /public\.child/)

    done(await regain('restore', 'shop/dump', '--database', 'shop', '--to', 'shop.sql'))
    await sql(newer.url(), 'create database script template template0')
    const psql = await runCommand(join(PROGRAMS, 'psql'), [
      '-X',
      '-q',
      '-v',
      'ON_ERROR_STOP=1',
      '-f',
      join(cwd, 'shop.sql'),
      newer.url('script'),
    ])
    assert.equal(psql.status, 0, psql.stderr)
    assert.deepEqual(await sql(newer.url('script'), ODD_CONTENT), await sql(old.url('shop'), ODD_CONTENT))
    done(await regain('restore', 'shop/dump', '--database', 'shop', '--to', 'folder'))
    assert.deepEqual((await readdir(join(cwd, 'folder'))).sort(), ['database.dump', 'table-1.dump'])
    done(await regain('restore', 'shop/dump', '--to', 'all'))
    assert.deepEqual((await readdir(join(cwd, 'all'))).sort(), ['databases', 'globals.sql', 'restore.txt'])
    assert.deepEqual(await leftovers(), [])
  })

  test('that fail in the middle of a restore leave nothing of what it made', async () => {
    const before = await databases(newer)
    const lib = join(cwd, 'half')
    await mkdir(lib, { recursive: true })
    await wrap(
      lib,
      'pg_restore',
      `case "$*" in *post-data*) echo "pg_restore: error: made to fail" >&2; exit 1;; esac; exec ${PROGRAMS}/pg_restore "$@"`,
    )
    await wrap(lib, 'psql', `exec ${PROGRAMS}/psql "$@"`)
    await wrap(lib, 'pg_dump', `exec ${PROGRAMS}/pg_dump "$@"`)
    await wrap(lib, 'pg_dumpall', `exec ${PROGRAMS}/pg_dumpall "$@"`)
    await configure(`programs: ${lib}`)
    const failed = await regain('restore', 'shop/dump', '--database', 'shop', '--to', newer.url('never'))
    assert.equal(failed.status, 6, JSON.stringify(failed.last))
    assert.match(String(failed.last.message), /made to fail/)
    assert.deepEqual(await databases(newer), before)
    assert.deepEqual(await leftovers(), [])
  })

  test('are no point if pg_dump dies, and no secret is in arguments or environments', async () => {
    const before = await points()
    const lib = join(cwd, 'dying')
    await mkdir(lib)
    const said = join(cwd, 'said')
    await wrap(
      lib,
      'pg_dumpall',
      `env > ${said}; echo "$@" >> ${said}; cat "$PGPASSFILE" > ${said}.pass; stat -c %a "$PGPASSFILE" > ${said}.mode; exec ${PROGRAMS}/pg_dumpall "$@"`,
    )
    await wrap(
      lib,
      'pg_dump',
      `case "$1" in --version) exec ${PROGRAMS}/pg_dump --version;; esac; ${PROGRAMS}/pg_dump "$@" | head -c 3000; echo "pg_dump: error: the disk is gone" >&2; exit 1`,
    )
    await configure(`programs: ${lib}`)
    const failed = await regain('backup', 'shop')
    assert.deepEqual([failed.status, failed.last.code], [1, 'source-unavailable'], JSON.stringify(failed.last))
    assert.match(String(failed.last.message), /the disk is gone/)
    assert.equal(await points(), before)
    assert.ok(!(await readFile(said, 'utf8')).includes(PASSWORD))
    assert.equal(await readFile(`${said}.pass`, 'utf8'), '*:*:*:*:p\\:a\\\\ss word\n')
    assert.equal((await readFile(`${said}.mode`, 'utf8')).trim(), '600')
    assert.deepEqual(await leftovers(), [])
    await configure(`programs: ${PROGRAMS}`)
  })

  test('of a role that may read only some databases are incomplete, and say why; check names the cure', async () => {
    await sql(old.url(), `create role dumper login password 'x'; alter database latin owner to dumper`)
    await sql(old.url('latin'), 'grant select on t to dumper')
    const url = old.url().replace(/\/\/postgres:[^@]*@/, '//dumper:x@')
    await configure(`programs: ${PROGRAMS}, databases: [latin, shop, gone]`, url)
    const check = await regain('check')
    assert.equal(check.status, 6, JSON.stringify(check.last))
    const codes = (check.last.findings as { code: string; severity: string }[])
      .filter(({ severity }) => severity !== 'ok')
      .map(({ code }) => code)
    for (const code of ['read-rights', 'role-passwords', 'large-objects', 'database'])
      assert.ok(codes.includes(code), `${code} of ${codes}`)
    const backup = await regain('backup', 'shop')
    assert.equal(backup.status, 3, JSON.stringify(backup.last))
    const missed = backup.last.missed as { path: string; reason: string; detail: string }[]
    assert.deepEqual(
      missed.map(({ path, reason }) => [path, reason]),
      [
        ['gone', 'vanished'],
        ['shop', 'unreadable'],
      ],
    )
    assert.match(missed[1]!.detail, /permission denied/)
    await configure(`programs: ${PROGRAMS}, databases: [shop]`, url)
    const none = await regain('backup', 'shop')
    assert.deepEqual([none.status, none.last.code], [6, 'source-unsuitable'], JSON.stringify(none.last))
    await configure(`programs: ${PROGRAMS}`)
  })

  test('are refused of a server that is newer than pg_dump', async () => {
    await configure(`programs: ${PROGRAMS}`, newer.url())
    const backup = await regain('backup', 'shop')
    assert.deepEqual([backup.status, backup.last.code], [6, 'precondition-failed'])
    assert.match(String(backup.last.message), /too old: 15/)
    await configure(`programs: ${PROGRAMS}`)
  })

  async function points(): Promise<number> {
    const { last } = await regain('points', 'shop')
    return (last.sources as { points: unknown[] }[])[0]!.points.length
  }
})

async function wrap(folder: string, name: string, script: string): Promise<void> {
  const version = `case "$1" in --version) exec ${PROGRAMS}/${name} --version;; esac`
  await writeFile(join(folder, name), `#!/bin/sh\n${version}\n${script}\n`)
  await chmod(join(folder, name), 0o755)
  assert.ok((await stat(join(folder, name))).isFile())
}

function done({ status, last, stderr }: CommandResult & { last: Record<string, unknown> }): void {
  assert.equal(status, 0, JSON.stringify(last) + stderr)
}

async function databases(postgres: TestPostgres): Promise<string[]> {
  const rows = await sql(postgres.url(), 'select datname from pg_database where not datistemplate order by 1')
  return rows.map(({ datname }) => String(datname))
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
