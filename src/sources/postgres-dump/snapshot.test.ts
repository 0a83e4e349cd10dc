import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../../test/support/postgres.ts'
import { holdSnapshot } from './snapshot.ts'
import { tablePattern, withDescendants } from './tables.ts'

test('a table that is truncated while the snapshot is taken is not read as empty', async (t) => {
  const postgres = await startPostgres(t)
  await postgres.query('create table emptied (n int); insert into emptied values (1); create table other (n int)')
  const writer = await postgres.connect()
  await writer.query('begin; truncate emptied; insert into emptied values (2), (3)')
  const holder = await postgres.connect()
  const held = holdSnapshot(holder)
  for (;;) {
    const [row] = await postgres.query<{ waits: boolean }>(
      'select exists (select from pg_locks where not granted) as waits',
    )
    if (row?.waits) break
  }
  // Of a snapshot that was older than this, the table would have no rows at all.
  await writer.query('commit')
  const { id, tables } = await held
  assert.deepEqual(tables.map(({ text }) => text).sort(), ['public.emptied', 'public.other'])
  const reader = await postgres.connect()
  await reader.query(`begin isolation level repeatable read; set transaction snapshot '${id}'`)
  const { rows } = await reader.query('select n from emptied order by n')
  assert.deepEqual(rows, [{ n: 2 }, { n: 3 }])
  // Nobody else can make it so afterwards.
  await writer.query("set lock_timeout = '10ms'")
  await assert.rejects(writer.query('truncate other'), { code: '55P03' })
  await writer.query('insert into other values (1)')
})

test('a table that is made or dropped while the snapshot is taken costs another try', async (t) => {
  const postgres = await startPostgres(t)
  await postgres.query('create table a (n int); create table gone (n int)')
  const client = await postgres.connect()
  const query = client.query.bind(client) as (text: string) => Promise<unknown>
  let tries = 0
  client.query = (async (text: string) => {
    if (text.startsWith('begin') && ++tries === 1) await postgres.query('drop table gone')
    if (text.startsWith('begin') && tries === 2) await postgres.query('create table made (n int)')
    return query(text)
  }) as typeof client.query
  const { tables } = await holdSnapshot(client)
  assert.deepEqual([tries, tables.map(({ name }) => name)], [3, ['a', 'made']])
})

for (const [pattern, matches, others] of [
  ['sessions', ['public.sessions', 'other.sessions'], ['public.session', 'public.sessions2']],
  ['audit.*', ['audit.a', 'audit.b.c'], ['public.audit']],
  ['log_?', ['public.log_1'], ['public.log_', 'public.log_12', 'public.logx1']],
  ['"Odd.*"."a""b"', ['Odd.*.a"b'], ['Oddx.a"b', 'Odd.x.a"b']],
  ['a+b', ['public.a+b'], ['public.aab']],
] as const)
  test(`the pattern ${pattern} means ${matches.join(', ')}, not ${others.join(', ')}`, () => {
    const isMeant = tablePattern(pattern)
    // Schemas of these names have no dot but in the last example.
    const table = (text: string) => {
      const at = text.startsWith('Odd.') ? text.lastIndexOf('.') : text.indexOf('.')
      return { schema: text.slice(0, at), name: text.slice(at + 1) }
    }
    for (const text of matches) assert.equal(isMeant(table(text)), true, text)
    for (const text of others) assert.equal(isMeant(table(text)), false, text)
  })

test('what names no table is refused', () => {
  for (const text of ['', '.', 'a.b.c', '.a', '"a', 'a"b"'])
    assert.throws(() => tablePattern(text), { code: 'config-invalid' })
})

test('partitions go with their table, at any depth', () => {
  const table = (oid: number, parents: number[]) => ({
    ...{ oid, parents, schema: 's', name: `t${oid}`, text: `s.t${oid}` },
    ...{ isPartitioned: false, unlogged: false, extended: false, bytes: 0 },
  })
  const tables = [table(4, [3]), table(3, [2]), table(2, []), table(1, [])]
  assert.deepEqual([...withDescendants(tables, ({ oid }) => oid === 2)].map(({ oid }) => oid).sort(), [2, 3, 4])
})
