import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { jsonLines } from '../support/command.ts'
import { runInProcess } from '../support/own-process.ts'
import { startPostgres, temporaryDirectory } from '../support/postgres.ts'

/** What could reach from one tenant to another: values that are equal by one type and not by another, keys that act, triggers. */

const SCHEMA = `
create table acc (name text primary key, code text unique);
create table heir (name text primary key) inherits (acc);
create table numbered (id int primary key, owner int);
create table notes (id int primary key, acc text not null references acc, code text references acc (code) on update set null);
create table events (acc text not null references acc, part int, id int, primary key (part, id)) partition by list (part);
create table events_1 partition of events for values in (1);
create table seen (id int primary key, acc text not null references acc, part int, event int,
  foreign key (part, event) references events_1 (part, id) on delete cascade);
insert into acc values ('1', 'one'), ('01', 'two');
insert into heir values ('heir');
insert into numbered values (1, 1), (2, 1);
insert into notes values (1, '1', 'one'), (2, '01', 'one');
insert into events values ('1', 1, 1);
`

test('what is equal by one type and not by another is of one tenant, and no key or trigger reaches from one to another', async (t) => {
  const postgres = await startPostgres(t, { major: 17 })
  await postgres.query('create database shop')
  const client = await postgres.connect('shop')
  await client.query(SCHEMA)
  const cwd = await temporaryDirectory(t)
  await writeFile(
    join(cwd, 'regain.yaml'),
    `version: 1
destinations: { one: { type: local, path: one } }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    key: main
    retention: keep-all
    sources: { db: { type: postgres-tenants, url: "${postgres.url('shop')}", tenants: { table: acc, key: name, columns: [owner] } } }
`,
  )
  const regain = async (...args: string[]) => {
    const env = { PATH: process.env.PATH ?? '', HOME: cwd, XDG_STATE_HOME: join(cwd, 'state') }
    const result = await runInProcess(['--config', join(cwd, 'regain.yaml'), ...args, '--json'], env)
    return { ...result, last: jsonLines(result.stdout).at(-1) ?? {} }
  }
  assert.equal((await regain('init', '--yes')).status, 0)
  const backup = await regain('backup', 'shop')
  assert.equal(backup.status, 0, backup.stderr)
  const { last } = await regain('tenants', 'shop')
  assert.deepEqual((last.tenants as { tenant: string }[]).map(({ tenant }) => tenant).sort(), ['01', '1'])

  for (const [tenant, rows] of [
    ['1', '1\t1\n2\t1\n'],
    ['01', ''],
  ] as const) {
    const to = join(cwd, `of ${tenant}`)
    assert.equal((await regain('restore', 'shop/db', '--tenant', tenant, '--to', to)).status, 0)
    assert.equal(await readFile(join(to, 'owned', 'public.numbered.copy'), 'utf8'), rows)
  }

  const content = async () => {
    const found: string[][] = []
    for (const table of ['acc', 'numbered', 'notes', 'events', 'seen']) {
      const { rows } = await client.query<{ row: string }>(`select t::text as row from ${table} t order by 1`)
      found.push(rows.map(({ row }) => row))
    }
    return found
  }
  const refused = async (status: number, pattern: RegExp, user = 'postgres') => {
    const before = await content()
    const to = postgres.url('shop').replace('postgres@', `${user}@`)
    const result = await regain('restore', 'shop/db', '--tenant', '1', '--overwrite', '1', '--to', to)
    assert.equal(result.status, status, JSON.stringify(result.last))
    assert.match(String(result.last.message), pattern)
    assert.deepEqual(await content(), before)
  }
  // Bringing the code back would set that of another's note to null.
  await client.query(`begin; alter table notes disable trigger all; update acc set code = 'uno' where name = '1';
    update notes set code = 'uno'; alter table notes enable trigger all; commit`)
  await refused(6, /1 rows of public\.notes by notes_code_fkey/)
  await client.query(`update notes set code = null where id = 2`)
  // The key of a single partition deletes, too.
  await client.query(`insert into events values ('1', 1, 7); insert into seen values (1, '01', 1, 7)`)
  await refused(6, /1 rows of public\.seen by seen_part_event_fkey/)
  await client.query('delete from seen')
  // Whoever does not own the tables can't hold their triggers back.
  await client.query(`create role clerk login; grant all on all tables in schema public to clerk;
    create function spread() returns trigger language plpgsql as $f$ begin update public.notes set code = null; return null; end $f$;
    create trigger spread after delete on events for each row execute function spread()`)
  await refused(4, /changed or deleted than the restore did itself: 2 in public\.notes/, 'clerk')
  // By rules that were corrected since, what the point takes for this tenant's is another's.
  const text = await readFile(join(cwd, 'regain.yaml'), 'utf8')
  await writeFile(join(cwd, 'regain.yaml'), text.replace('columns: [owner]', 'shared: [numbered]'))
  await refused(6, /not by those of the configuration: 2 in public\.numbered/)
  await writeFile(join(cwd, 'regain.yaml'), text)
  const restored = await regain('restore', 'shop/db', '--tenant', '1', '--overwrite', '1', '--to', postgres.url('shop'))
  assert.equal(restored.status, 0, JSON.stringify(restored.last))
  assert.deepEqual((await content())[2], ['(1,1,one)', '(2,01,)'])
})
