import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listen, record } from '../../../test/contract/source.ts'
import { startPostgres, startStandby } from '../../../test/support/postgres.ts'
import { testAmbient } from '../../../test/support/postgres-recorders.ts'
import { RecordingWriter } from '../../../test/support/recording-point.ts'
import type { Entry } from '../../model.ts'
import { MoreBytes, parseToc } from './restore/archive-toc.ts'
import { createPostgresDumpSource } from './source.ts'

test('a standby is dumped, and what it lacks is named, unless it is not wanted', async (t) => {
  const primary = await startPostgres(t, { major: 15 })
  await primary.query('create table kept as select 1 as n; create unlogged table scratch as select 2 as n')
  const standby = await startStandby(t, primary)
  const source = (unlogged: boolean) =>
    createPostgresDumpSource(
      { url: standby.url(), databases: [], exclude: [], unlogged, jobs: 2, fingerprint: true },
      { ambient: testAmbient(), search: { directories: ['/usr/lib/postgresql/15/bin'] }, path: '', environment: {} },
    )
  const wanted = await record(source(true), null, listen('full'))
  assert.deepEqual(
    wanted.point.missed.map(({ path, reason }) => [path, reason]),
    [['postgres: public.scratch', 'unsupported']],
  )
  const { point } = await record(source(false), null, listen('full'))
  assert.deepEqual(point.missed, [])
  assert.deepEqual(
    point.fingerprint?.databases[0]?.counts.map(({ table, rows, how }) => [table, rows, how]),
    [
      ['public.kept', 1, 'exact'],
      ['public.scratch', 0, 'left-out'],
    ],
  )
  // Cut anywhere, its archive's table of contents is known to be incomplete, never read as a shorter one.
  const archive = wanted.content.get('databases/postgres/database.dump')!
  const toc = parseToc(archive)
  assert.deepEqual(
    toc.entries.filter(({ kind }) => kind === 'TABLE').map(({ schema, tag, section }) => [schema, tag, section]),
    [
      ['public', 'kept', 'pre-data'],
      ['public', 'scratch', 'pre-data'],
    ],
  )
  for (let length = 0; length < toc.bytes; length++)
    assert.throws(() => parseToc(archive.subarray(0, length)), MoreBytes)
  assert.deepEqual(parseToc(archive.subarray(0, toc.bytes)), toc)
  const other = Buffer.from(archive)
  other[5] = 9
  assert.throws(() => parseToc(other), /format is 9\./)
})

test('a connection that breaks during a dump fails the backup, and nothing else', async (t) => {
  const { query, url } = await startPostgres(t, { major: 15 })
  await query('create table kept as select 1 as n')
  class Breaking extends RecordingWriter {
    override async add(entry: Entry): Promise<void> {
      // The session that holds the snapshot, before pg_dump has taken it over.
      if (entry.path === 'databases/postgres')
        await query(
          `select pg_terminate_backend(pid, 10000) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`,
        )
      return super.add(entry)
    }
  }
  const source = createPostgresDumpSource(
    { url: url(), databases: [], exclude: [], unlogged: true, jobs: 2, fingerprint: true },
    { ambient: testAmbient(), search: { directories: ['/usr/lib/postgresql/15/bin'] }, path: '', environment: {} },
  )
  await assert.rejects(source.backup(new Breaking({ unordered: true }), listen('full').options), {
    code: 'source-unavailable',
    message: /pg_dump failed/,
  })
})
