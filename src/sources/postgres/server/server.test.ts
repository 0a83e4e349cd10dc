import assert from 'node:assert/strict'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres, temporaryDirectory, testBinaries } from '../../../../test/support/postgres.ts'
import { findPostgres } from './binaries.ts'
import { initDatabase } from './init.ts'
import { startServer } from './server.ts'
import { parseAccount } from './server-user.ts'

test('a server starts, answers, is stopped and leaves nothing', async (t) => {
  const postgres = await startPostgres(t, { password: "it's a \\ secret" })
  const [row] = await postgres.query<{ sum: number }>('select 1 + 1 as sum')
  assert.equal(row?.sum, 2)
  const { socketDirectory } = postgres.server()
  assert.equal((await stat(socketDirectory)).mode & 0o777, 0o700)
  await postgres.stop()
  await assert.rejects(stat(socketDirectory), { code: 'ENOENT' })
  await assert.rejects(stat(join(postgres.directory, 'postmaster.pid')), { code: 'ENOENT' })
})

test('a crash leaves a data directory that recovers', async (t) => {
  const postgres = await startPostgres(t)
  await postgres.query('create table kept as select generate_series(1, 1000) as n')
  await postgres.crash()
  assert.equal(postgres.server().ended()?.signal, 'SIGKILL')
  await postgres.start()
  const [row] = await postgres.query<{ n: string }>('select count(*) as n from kept')
  assert.equal(row?.n, '1000')
})

test('a server that cannot start says why', async (t) => {
  const directory = join(await temporaryDirectory(t), 'data')
  const binaries = await testBinaries(15)
  await initDatabase({ binaries, directory, settings: { shared_preload_libraries: "no'such" }, signal: t.signal })
  await assert.rejects(startServer({ binaries, directory, signal: t.signal }), (error: Error) => {
    assert.match(error.message, /could not access file "no'such"/)
    return true
  })
  assert.match(await readFile(join(directory, 'postgresql.conf'), 'utf8'), /no''such/)
})

test('a version that is not installed is named, with the places looked at', async () => {
  await assert.rejects(findPostgres(12), {
    code: 'precondition-failed',
    message: /No PostgreSQL 12 .*postgresql\/12\/bin/,
  })
})

test('accounts are found by their exact name, never root', () => {
  const passwd = 'root:x:0:0::/root:/bin/sh\npostgresql:x:9:9::/:\npostgres:x:101:104:a,b:/var:/bin/bash\n'
  assert.deepEqual(parseAccount(passwd, 'postgres'), { uid: 101, gid: 104 })
  assert.equal(parseAccount(passwd, 'root'), null)
  assert.equal(parseAccount(passwd, 'nobody'), null)
})
