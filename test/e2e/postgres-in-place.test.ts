import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, utimesSync, watch, writeFileSync } from 'node:fs'
import { cp, mkdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { findRunningServer, stopRunningServer } from '../../src/sources/postgres/server/running-server.ts'
import { jsonLines, LAUNCHER, runCommand, startCommand } from '../support/command.ts'
import {
  makeTablespace,
  startPostgres,
  type TestPostgres,
  temporaryDirectory,
  testPostgres,
} from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'
import { assertSoundCluster } from '../support/postgres-soundness.ts'

/** A database is brought back over what became of it: only what differs is written, and nobody takes half of it for the whole. */

const MIB = 1024 * 1024

async function fill(postgres: TestPostgres): Promise<void> {
  await postgres.query(
    `create table big as select n, repeat(md5(n::text), 20) as text from generate_series(1, 30000) as n`,
  )
  await postgres.query('create index on big (n)')
}

test('a cluster is brought back over itself, tablespace included: what differs is written, whatever the times say', async (t) => {
  const postgres = await startPostgres(t, {
    major: 15,
    dataChecksums: true,
    settings: { archive_mode: 'on', archive_command: 'true' },
  })
  const protection = await protect(t)
  const disk = await makeTablespace(t, postgres)
  await fill(postgres)
  await postgres.query('create table placed tablespace fast as select generate_series(1, 50000) as n')
  await postgres.query('create table dropped as select generate_series(1, 1000) as n')
  await postgres.query('create unlogged table fleeting as select generate_series(1, 1000) as n')
  await postgres.query('checkpoint')
  await protection.takePoint(postgres)
  const following = protection.follow(postgres)
  await writeRows(postgres, 1, 5)
  await following.caughtUp()
  const [place] = await postgres.query<{ big: string; oid: string }>(
    `select pg_relation_filepath('big') as big, (select oid::text from pg_tablespace where spcname = 'fast') as oid`,
  )
  await following.stop()
  // What is to be undone.
  await postgres.query('drop table dropped')
  await postgres.query('create table new as select generate_series(1, 1000) as n')
  await postgres.query('delete from placed where n % 2 = 0')
  await postgres.stop()
  // And what nobody did: a page with other bytes, the file as old and as large as before.
  const path = join(postgres.directory, place?.big ?? '')
  const { atime, mtime, size } = statSync(path)
  const bytes = readFileSync(path)
  bytes.fill(0xaa, 5 * MIB, 5 * MIB + 8192)
  writeFileSync(path, bytes)
  utimesSync(path, atime, mtime)
  assert.equal(statSync(path).size, size)
  await mkdir(join(disk, 'of another'))
  await writeFile(join(postgres.directory, 'left behind'), 'x')

  const { over, bytes: written } = await protection.restore(postgres, { kind: 'latest' }, postgres.directory, {
    start: true,
    inPlace: true,
  })
  assert.ok(written < 12 * MIB, `${written} bytes were written`)
  assert.ok((over?.reusedBytes ?? 0) > 25 * MIB, `only ${over?.reusedBytes} bytes were reused`)
  assert.equal(await readlink(join(postgres.directory, 'pg_tblspc', place?.oid ?? '')), disk)
  assert.ok(existsSync(join(disk, 'of another')))
  assert.equal(existsSync(join(postgres.directory, 'left behind')), false)
  const restored = testPostgres(t, postgres.binaries, postgres.directory)
  await restored.adopt()
  assert.deepEqual(await readRows(restored), [1, 2, 3, 4, 5])
  const [counts] = await restored.query<Record<string, string>>(
    `select (select count(*) from big where length(text) = 640) as big, (select count(*) from placed) as placed,
            (select count(*) from dropped) as dropped, (select count(*) from fleeting) as fleeting,
            (select count(*) from pg_class where relname = 'new') as new, current_setting('archive_mode') as archive_mode,
            current_setting('port') as port`,
  )
  const { port, ...rest } = counts ?? {}
  // It takes its own place: it archives as before.
  assert.deepEqual(rest, {
    big: '30000',
    placed: '50000',
    dropped: '1000',
    fleeting: '0',
    new: '0',
    archive_mode: 'on',
  })
  const server = await findRunningServer(postgres.directory)
  await assertSoundCluster(restored, Number(port), async () => {
    if (server) await stopRunningServer(server)
  })
})

test('over another cluster, another version, a running server or what is no cluster nothing is restored', async (t) => {
  const postgres = await startPostgres(t, { major: 15 })
  const protection = await protect(t)
  const disk = await makeTablespace(t, postgres)
  const point = await protection.takePoint(postgres)
  assert.equal(point.positions.machine, process.arch === 'x64' ? 'x86_64' : 'aarch64')
  const over = (directory: string) => protection.restore(postgres, { kind: 'latest' }, directory, { inPlace: true })
  const refused = (directory: string, message: RegExp) =>
    assert.rejects(over(directory), { code: 'precondition-failed', message })

  await refused(postgres.directory, /server is at work on .* \(process \d+\)/)
  // Its pid file gone, as by a careless hand: it is found all the same.
  await rename(join(postgres.directory, 'postmaster.pid'), join(postgres.directory, 'elsewhere'))
  await refused(postgres.directory, /server is at work on/)
  await rename(join(postgres.directory, 'elsewhere'), join(postgres.directory, 'postmaster.pid'))
  assert.deepEqual(await postgres.query('select 1 as one'), [{ one: 1 }])

  const other = await startPostgres(t, { major: 15 })
  await other.stop()
  const before = readdirSync(other.directory, { recursive: true }).sort()
  await refused(other.directory, /holds another cluster/)
  assert.deepEqual(readdirSync(other.directory, { recursive: true }).sort(), before)
  await other.start()

  await postgres.stop()
  const copy = join(await temporaryDirectory(t), 'copy')
  await cp(postgres.directory, copy, { recursive: true })
  // A plain copy leads to its original's tablespaces.
  await postgres.start()
  await refused(copy, new RegExp(`uses ${disk}`))
  await postgres.stop()
  await writeFile(join(copy, 'PG_VERSION'), '14\n')
  await refused(copy, /is of PostgreSQL 14, and the point of 15/)
  await writeFile(join(copy, 'PG_VERSION'), '15\n')
  await rm(join(copy, 'global/pg_control'))
  await refused(copy, /not a data directory, or not a whole one/)
  assert.ok(existsSync(join(copy, 'base')))
})

test('a restore that is killed on its way leaves what no server starts on, and the same command ends it', async (t) => {
  const postgres = await startPostgres(t, { major: 15, dataChecksums: true })
  const cwd = await temporaryDirectory(t)
  const { PATH = '' } = process.env
  const env = { PATH, HOME: cwd, XDG_STATE_HOME: join(cwd, 'state'), SHOP_URL: postgres.url() }
  const regain = async (...args: string[]) => {
    const { status, stdout } = await runCommand(LAUNCHER, [...args, '--json'], { cwd, env })
    return { status, last: jsonLines(stdout).at(-1) ?? {} }
  }
  await fill(postgres)
  assert.equal(
    (await regain('init', '--yes', '--service', 'shop', '--postgres', '${SHOP_URL}', '--destination', 'to')).status,
    0,
  )
  assert.equal((await regain('backup', 'shop/db')).status, 0)
  await postgres.query('update big set text = text where n % 3 = 0')
  await postgres.stop()
  // A log of its own: it becomes a folder, and what the link leads to stays.
  const wal = join(cwd, 'wal')
  await rename(join(postgres.directory, 'pg_wal'), wal)
  await symlink(wal, join(postgres.directory, 'pg_wal'))
  const segments = readdirSync(wal)

  const { directory } = postgres
  const args = ['restore', 'shop/db', '--to', directory, '--in-place']
  const once = await regain(...args)
  assert.deepEqual([once.status, once.last.code], [6, 'precondition-failed'])
  assert.match(String(once.last.hint), /--overwrite/)
  assert.equal((await regain(...args, '--overwrite', cwd)).status, 6)
  const preview = await regain(...args, '--preview')
  assert.match(JSON.stringify(preview.last), /WRITE OVER .*regain verify shop\/db --read-data.*pg_wal is a link/)
  await postgres.start()
  await postgres.stop()

  const child = startCommand(LAUNCHER, [...args, '--overwrite', directory], { cwd, env })
  const watcher = watch(join(directory, 'global'))
  await new Promise<void>((resolve) =>
    watcher.on('change', (_, name) => {
      if (String(name).endsWith('.regain-replaced')) resolve()
    }),
  )
  child.child.kill('SIGKILL')
  watcher.close()
  await child.result
  assert.equal(existsSync(join(directory, 'global/pg_control')), false)
  await assert.rejects(postgres.start())

  const second = await regain(...args, '--overwrite', directory, '--start')
  assert.equal(second.status, 0, JSON.stringify(second.last))
  const restored = testPostgres(t, postgres.binaries, directory)
  await restored.adopt()
  const [row] = await restored.query<{ n: string; port: string }>(
    `select count(*) as n, current_setting('port') as port from big`,
  )
  assert.equal(row?.n, '30000')
  assert.deepEqual(readdirSync(wal), segments)
  assert.equal(existsSync(join(directory, '.regain-restore-unfinished')), false)
  const server = await findRunningServer(directory)
  await assertSoundCluster(restored, Number(row?.port), async () => {
    if (server) await stopRunningServer(server)
  })
})
