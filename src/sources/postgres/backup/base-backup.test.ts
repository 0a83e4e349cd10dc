import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeTablespace, startPostgres, type TestPostgres } from '../../../../test/support/postgres.ts'
import { MemoryPoint, testOptions } from '../../../../test/support/postgres-recorders.ts'
import { connectReplication } from '../protocol/connection.ts'
import { parseConnectionUrl } from '../protocol/connection-url.ts'
import { type BaseBackup, takeBaseBackup } from './base-backup.ts'

async function backup(
  postgres: TestPostgres,
  writer: MemoryPoint,
  signal: AbortSignal,
  warnings: string[] = [],
): Promise<BaseBackup> {
  const connection = await connectReplication(parseConnectionUrl(postgres.url()), signal)
  try {
    return await takeBaseBackup({
      connection,
      major: postgres.major,
      blockBytes: 8192,
      incremental: null,
      writer,
      label: "regain's",
      options: testOptions(signal, warnings),
      started: () => undefined,
    })
  } finally {
    await connection.close()
  }
}

for (const major of [13, 14, 15, 16, 17, 18]) {
  test(`version ${major}: every file of the manifest arrives, with a tablespace`, async (t) => {
    const postgres = await startPostgres(t, { major })
    const elsewhere = await makeTablespace(t, postgres, 'fast disk')
    await postgres.query(
      `create table here as select g as id, repeat('x', 500) as filler from generate_series(1, 20000) g`,
    )
    await postgres.query(`create table there tablespace fast as select g as id from generate_series(1, 1000) g`)
    const [file] = await postgres.query<{ here: string; there: string }>(
      `select pg_relation_filepath('here') as here, pg_relation_filepath('there') as there`,
    )
    const writer = new MemoryPoint()
    const result = await backup(postgres, writer, t.signal)

    assert.ok(result.stopLsn > result.startLsn)
    assert.equal(result.timeline, 1)
    assert.deepEqual(result.missed, [])
    assert.deepEqual(
      result.tablespaces.map(({ location }) => location),
      [elsewhere],
    )
    const paths = writer.paths()
    assert.equal(paths[0], '')
    assert.equal(paths.at(-1), 'backup_manifest')
    for (const path of [
      'backup_label',
      'tablespace_map',
      'global/pg_control',
      'pg_wal',
      `pg_tblspc/${result.tablespaces[0]?.oid}`,
    ]) {
      assert.ok(paths.includes(path), path)
    }
    assert.equal(writer.find(file?.here ?? '')?.chunking, 'pages')
    assert.equal(writer.find(file?.there ?? '')?.chunking, 'pages')
    assert.equal(writer.find('PG_VERSION')?.chunking, 'content')
    assert.equal(writer.find('')?.entry.mode, 0o700)
    assert.equal(
      writer.entries.reduce((sum, { content }) => sum + content.length, 0) -
        (writer.find('backup_manifest')?.content.length ?? 0),
      result.bytes,
    )
  })
}

test('a page that does not match its checksum is kept and named', async (t) => {
  const postgres = await startPostgres(t, { major: 15, dataChecksums: true })
  await postgres.query('create table hurt as select g as id from generate_series(1, 1000) g')
  const [file] = await postgres.query<{ path: string }>(`select pg_relation_filepath('hurt') as path`)
  await postgres.stop()
  const handle = await open(join(postgres.directory, file?.path ?? ''), 'r+')
  await handle.write(Buffer.from('damage'), 0, 6, 5000)
  await handle.close()
  await postgres.start()

  const writer = new MemoryPoint()
  const result = await backup(postgres, writer, t.signal)
  assert.deepEqual(
    result.missed.map(({ path, reason }) => [path, reason]),
    [[file?.path, 'damaged']],
  )
  assert.equal(writer.find(file?.path ?? '')?.content.toString('latin1', 5000, 5006), 'damage')
})

test('a writer that fails ends the backup with its error, and the server is free', async (t) => {
  const postgres = await startPostgres(t)
  const writer = new MemoryPoint()
  let writes = 0
  writer.onWrite = async () => {
    if (++writes === 50) throw new Error('the store is full')
  }
  await assert.rejects(backup(postgres, writer, t.signal), /the store is full/)
  await backup(postgres, new MemoryPoint(), t.signal)
})

test('an interruption ends the backup at once, also while the writer holds the server back', async (t) => {
  const postgres = await startPostgres(t)
  await postgres.query(
    `create table big as select g as id, repeat('x', 900) as filler from generate_series(1, 40000) g`,
  )
  const interrupt = new AbortController()
  const writer = new MemoryPoint()
  const stuck = Promise.withResolvers<void>()
  interrupt.signal.addEventListener('abort', () => stuck.resolve())
  writer.onWrite = () => stuck.promise
  // While the first write is stuck, the intake fills up and holds the socket; then comes the interruption.
  const running = backup(postgres, writer, interrupt.signal)
  const held = async (): Promise<boolean> => {
    const [sender] = await postgres.query<{ waits: boolean }>(
      `select wait_event = 'WalSenderWriteData' or wait_event = 'ClientWrite' as waits from pg_stat_activity where backend_type = 'walsender'`,
    )
    return sender?.waits === true
  }
  while (!(await held())) t.signal.throwIfAborted()
  interrupt.abort()
  await assert.rejects(running, { code: 'interrupted' })
})

test('wrong password, missing role and missing server are told apart without the password', async (t) => {
  const postgres = await startPostgres(t, { password: 'right secret' })
  const connect = (url: string) => connectReplication(parseConnectionUrl(url), t.signal)
  const connection = await connect(postgres.url())
  assert.equal((await connection.queryRow('IDENTIFY_SYSTEM'))?.timeline, '1')
  assert.equal(await connection.show('wal_segment_size'), '16MB')
  await assert.rejects(connection.query('BASE_BACKUP (NONSENSE)'), {
    code: 'source-unsuitable',
    message: /unrecognized|syntax error/,
  })
  assert.equal(await connection.show('wal_level'), 'replica')
  await connection.close()
  const wrong = postgres.url().replace('right', 'wrong')
  await assert.rejects(connect(wrong), (error: Error) => {
    assert.match(error.message, /password authentication failed/)
    assert.doesNotMatch(`${error.stack}`, /wrong%20secret|wrong secret/)
    return true
  })
  await postgres.stop()
  await assert.rejects(connect(postgres.url()), { code: 'source-unavailable' })
})
