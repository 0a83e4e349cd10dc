import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Source } from '../../src/sources/contract.ts'
import { createPostgresTenantsSource } from '../../src/sources/postgres-tenants/source.ts'
import { ODD_ROWS, ODD_SCHEMA } from '../support/odd-database.ts'
import { startPostgres, suiteScope, type TestPostgres } from '../support/postgres.ts'
import { sourceContract } from './source.ts'

const execute = promisify(execFile)

const suite = suiteScope()
let shared: Promise<TestPostgres> | null = null
let copies = 0

/** Every odd row is the tenant's, but for some that are another's, and what is in between is nobody's. */
const TENANTS = `
create table public.tenants (name text collate "C" primary key);
insert into public.tenants values ('it''s \\ "odd"'), ('other');
alter table public.odd add tenant text default 'it''s \\ "odd"' references public.tenants;
alter table public.parent add tenant text references public.tenants;
update public.parent set tenant = case id % 3 when 0 then 'it''s \\ "odd"' when 1 then 'other' end;
alter table "Sales.*"."Odd ""name" add tenant text references public.tenants;
update "Sales.*"."Odd ""name" set tenant = case n % 2 when 0 then 'it''s \\ "odd"' else 'other' end;
update public.odd set tenant = 'other' where id > 2 and id % 2 = 0;
`
const TENANT = 'it\'s \\ "odd"'
const CONTENT = `
select 'odd' as what, md5(string_agg(o::text, E'\\n' order by id)) as value from public.odd o where tenant like 'it%'
union all select 'minus zero', string_agg(encode(float8send(d), 'hex'), ',' order by id) from public.odd where id < 3
union all select 'child', md5(string_agg(c::text, ',' order by id)) from public.child c where parent % 3 = 0
union all select 'parent', md5(string_agg(c::text, ',' order by id)) from public.parent c where tenant like 'it%'
union all select 'parted', md5(string_agg(c::text || tableoid::regclass, ',' order by n)) from "Sales.*"."Odd ""name" c where tenant like 'it%'
order by 1`

sourceContract('postgres-tenants', async () => {
  shared ??= startFilled()
  const postgres = await shared
  const open = (url: string): Source => {
    const rules = { table: 'tenants', key: 'name', columns: [], owners: {}, shared: [], exclude: [] }
    const source = createPostgresTenantsSource({ url, rules, isOne: true })
    return { ...source, backup: (writer, options) => source.backup(writer, { ...options, tenant: TENANT }) }
  }
  return {
    source: open(postgres.url('shop')),
    change: async () => {
      await inDatabase(
        postgres,
        'shop',
        `insert into parent (id, note, tenant) select max(id) + 3, 'changed', (select min(tenant) from odd) from parent`,
      )
    },
    assertSame: async (directory) => {
      const copy = `copy_${copies++}`
      await postgres.query(`create database ${copy} template empty`)
      await execute('psql', ['-X', '-q', '-f', 'load.sql', postgres.url(copy)], { cwd: directory })
      const restored = await inDatabase(postgres, copy, CONTENT)
      assert.deepEqual(restored, await inDatabase(postgres, 'shop', CONTENT))
      const others = `select (select count(*) from odd where tenant = 'other') + (select count(*) from parent where tenant = 'other') as n`
      assert.deepEqual(await inDatabase(postgres, copy, others), [{ n: '0' }])
    },
    absent: async () => open('postgres://postgres@127.0.0.1:1/postgres'),
    refuses: [
      { kind: 'lsn', lsn: '0/1' },
      { kind: 'xid', xid: '7' },
      { kind: 'name', name: 'x' },
    ],
    dispose: async () => undefined,
  }
})

/** On the oldest version, where least is there to help. */
async function startFilled(): Promise<TestPostgres> {
  const postgres = await startPostgres(suite, { major: 13 })
  await postgres.query('create database shop')
  await inDatabase(postgres, 'shop', ODD_SCHEMA)
  await inDatabase(postgres, 'shop', ODD_ROWS)
  await inDatabase(postgres, 'shop', TENANTS)
  await postgres.query('create database empty template shop')
  await inDatabase(postgres, 'empty', 'truncate tenants, odd, parent, child, "Sales.*"."Odd ""name"')
  return postgres
}

async function inDatabase(postgres: TestPostgres, database: string, sql: string): Promise<unknown[]> {
  const client = await postgres.connect(database)
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
