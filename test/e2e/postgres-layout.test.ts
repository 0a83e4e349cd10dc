import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import type { RestoreMoment } from '../../src/sources/contract.ts'
import { fetchLog } from '../../src/sources/postgres/recovery/fetch.ts'
import { findRunningServer, stopRunningServer } from '../../src/sources/postgres/server/running-server.ts'
import {
  makeTablespace,
  startPostgres,
  type TestPostgres,
  temporaryDirectory,
  testPostgres,
} from '../support/postgres.ts'
import { type Protection, protect, readRows, writeRows } from '../support/postgres-protection.ts'
import { assertSoundCluster } from '../support/postgres-soundness.ts'

const execute = promisify(execFile)

test('tablespaces go beside the copy, unlogged tables are empty, and the original’s are not touched', async (t) => {
  const postgres = await startPostgres(t, { major: 17 })
  const protection = await protect(t)
  await makeTablespace(t, postgres, 'a fast disk')
  await postgres.query('create table placed tablespace fast as select generate_series(1, 1000) as n')
  await postgres.query('create unlogged table fleeting as select generate_series(1, 1000) as n')
  await protection.takePoint(postgres)
  const following = protection.follow(postgres)
  await postgres.query('insert into placed select generate_series(1001, 1500)')
  await following.caughtUp()

  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  const [counts] = await copy.query<{ placed: string; fleeting: string; oid: string }>(
    `select (select count(*) from placed) as placed, (select count(*) from fleeting) as fleeting,
            (select oid::text from pg_tablespace where spcname = 'fast') as oid`,
  )
  assert.deepEqual([counts?.placed, counts?.fleeting], ['1500', '0'])
  assert.equal(
    await readlink(join(copy.directory, 'pg_tblspc', counts?.oid ?? '')),
    `${copy.directory}.tablespaces/${counts?.oid}`,
  )
  // Both at once: the copy writes to its own.
  await copy.query('delete from placed')
  assert.equal((await postgres.query<{ n: string }>('select count(*) as n from placed'))[0]?.n, '1500')
  await following.stop()
})

test('a tablespace newer than the point keeps a copy from recovering beside its original, but not to a moment before', async (t) => {
  const postgres = await startPostgres(t, { major: 17 })
  const protection = await protect(t)
  const following = protection.follow(postgres)
  await protection.takePoint(postgres)
  // Recovery to a time goes on to the next commit, so another one stands between.
  const [before] = await writeRows(postgres, 1, 2)
  const disk = await makeTablespace(t, postgres)
  await postgres.query('create table placed tablespace fast as select generate_series(1, 1000) as n')
  await following.caughtUp()
  await following.stop()

  const folder = await temporaryDirectory(t)
  const refused = { code: 'precondition-failed', message: new RegExp(`${disk} after the point`) }
  const started = protection.restore(postgres, { kind: 'latest' }, join(folder, 'latest'), { start: true })
  await assert.rejects(started, refused)
  // Started by hand, the program behind restore_command refuses to hand the log over; for a moment before, it does.
  const fetchAll = async (name: string, at: RestoreMoment): Promise<void> => {
    const directory = join(folder, name)
    await protection.restore(postgres, at, directory)
    const store = protection.repository.log('db')
    const guard = join(directory, 'regain_recovery/guard.json')
    const { segments, tails } = await store.list()
    for (const segment of [...segments, ...tails])
      await fetchLog({ store, name: segment.name, target: join(folder, 'got'), spool: null, guard, signal: t.signal })
  }
  await assert.rejects(fetchAll('by-hand', { kind: 'latest' }), refused)
  await fetchAll('before', { kind: 'lsn', lsn: before?.lsn ?? '' })
  // Over the original itself it is found out before anything is changed.
  await postgres.stop()
  const over = protection.restore(postgres, { kind: 'latest' }, postgres.directory, { inPlace: true })
  await assert.rejects(over, { ...refused, message: /nothing was done/ })
  await postgres.start()
  const { postgres: byLsn } = await protection.recover(postgres, { kind: 'lsn', lsn: before?.lsn ?? '' })
  assert.deepEqual(await readRows(byLsn), [1])
  const { postgres: byTime } = await protection.recover(postgres, { kind: 'time', time: before?.at ?? '' })
  assert.deepEqual(await readRows(byTime), [1])
  assert.equal((await postgres.query<{ n: string }>('select count(*) as n from placed'))[0]?.n, '1000')
})

test('what a failed restore leaves of tablespaces is named with --start, and put away without', async (t) => {
  const postgres = await startPostgres(t, { major: 15 })
  const protection = await protect(t)
  await makeTablespace(t, postgres)
  // Only the copy, which is started after it, will look for this.
  await postgres.query(`alter system set shared_preload_libraries = 'is_not_there'`)
  await protection.takePoint(postgres)

  const folder = await temporaryDirectory(t)
  const started = join(folder, 'started')
  await assert.rejects(protection.restore(postgres, { kind: 'latest' }, started, { start: true }))
  const named = `${started}.tablespaces holds the tablespaces of the unfinished restore: remove it with that.`
  assert.ok(existsSync(`${started}.tablespaces`))
  assert.ok(protection.warnings.includes(named), protection.warnings.join('\n'))

  // A folder where a file is to be written makes a late step fail.
  await mkdir(join(postgres.directory, 'recovery.signal.part'))
  await protection.takePoint(postgres)
  const failed = join(folder, 'failed')
  await assert.rejects(protection.restore(postgres, { kind: 'latest' }, failed))
  assert.equal(existsSync(`${failed}.tablespaces`), false)
})

/** The log as plain files, and a program that fetches them as `regain log fetch` does. */
async function exportLog(t: TestContext, protection: Protection): Promise<{ folder: string; fetchCommand: string[] }> {
  const folder = await temporaryDirectory(t)
  const log = protection.repository.log('db')
  const listing = await log.list()
  for (const { branch, name } of [...listing.segments, ...listing.tails]) {
    const piece = await log.read(branch, name)
    const bytes = Buffer.alloc(16 * 1024 * 1024)
    piece?.bytes.copy(bytes)
    await writeFile(join(folder, name), bytes)
    await chmod(join(folder, name), 0o644)
  }
  const program = join(folder, 'fetch it')
  await writeFile(
    program,
    `#!/bin/sh\n[ -e '${folder}/broken' ] && exit 1\n[ -f '${folder}'/"$1" ] || exit 44\n[ "$3" = --spool ] || exit 2\ncp '${folder}'/"$1" "$2"\n`,
  )
  await chmod(program, 0o755)
  return { folder, fetchCommand: [program] }
}

test('a copy that is started by hand fetches its log by itself; a failure of that stops recovery instead of ending it', async (t) => {
  const postgres = await startPostgres(t, { major: 14 })
  const protection = await protect(t)
  await protection.takePoint(postgres)
  const following = protection.follow(postgres)
  await writeRows(postgres, 1, 20)
  await following.caughtUp()
  await following.stop()
  const { folder, fetchCommand } = await exportLog(t, protection)

  const directory = join(await temporaryDirectory(t), 'by hand')
  const summary = await protection.restore(postgres, { kind: 'latest' }, directory, { fetchCommand })
  assert.equal(summary.connection, undefined)
  assert.equal((await stat(directory)).mode & 0o777, 0o700)
  await stat(join(directory, 'recovery.signal'))
  // It may be moved before it is started.
  const moved = `${directory}, moved`
  await rename(directory, moved)
  const copy = testPostgres(t, postgres.binaries, moved)
  await writeFile(join(folder, 'broken'), '')
  await assert.rejects(copy.start(), { code: 'precondition-failed' })
  await stat(join(moved, 'recovery.signal'))
  await rm(join(folder, 'broken'))
  await copy.start()
  await untilPromoted(copy)
  assert.equal((await readRows(copy)).length, 20)

  // It has taken its original's place, and is lost in turn: what it was started with is in its own backup.
  await protection.takePoint(copy)
  const { postgres: second } = await protection.recover(postgres, { kind: 'latest' })
  assert.equal((await readRows(second)).length, 20)
})

async function untilPromoted(postgres: TestPostgres): Promise<void> {
  for (;;) {
    const [row] = await postgres.query<{ recovering: boolean }>('select pg_is_in_recovery() as recovering')
    if (row?.recovering === false) return
  }
}

test('a cluster whose configuration stands elsewhere, as Debian’s, comes up with what it needs', async (t) => {
  const postgres = await startPostgres(t, {
    major: 15,
    settings: { max_connections: '23', archive_mode: 'on', archive_command: 'true' },
  })
  const elsewhere = await temporaryDirectory(t)
  await postgres.stop()
  for (const name of ['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf'])
    await rename(join(postgres.directory, name), join(elsewhere, name))
  const settings = {
    config_file: join(elsewhere, 'postgresql.conf'),
    hba_file: join(elsewhere, 'pg_hba.conf'),
    ident_file: join(elsewhere, 'pg_ident.conf'),
  }
  await postgres.start(settings)
  const protection = await protect(t)
  await writeRows(postgres, 1, 3)
  await protection.takePoint(postgres)
  const { postgres: copy, summary } = await protection.recover(postgres, { kind: 'latest' })
  assert.match(summary.connection ?? '', /^postgres:/)
  const conf = await readFile(join(copy.directory, 'postgresql.conf'), 'utf8')
  assert.match(conf, /max_connections = '23'/)
  assert.match(await readFile(join(copy.directory, 'postgresql.auto.conf'), 'utf8'), /archive_mode = 'off'/)
  assert.match(protection.warnings.join('\n'), /archive_mode is off/)
})

test('a backup under load, tables coming and going, is sound to the last index', async (t) => {
  const postgres = await startPostgres(t, { major: 15, dataChecksums: true })
  const protection = await protect(t)
  await postgres.query('create table busy (id serial primary key, text text)')
  const ended = new AbortController()
  const churn = async (worker: number): Promise<void> => {
    const client = await postgres.connect()
    for (let i = 0; !ended.signal.aborted; i++) {
      await client.query(`insert into busy (text) select repeat(md5(random()::text), 10) from generate_series(1, 200)`)
      await client.query(`create table passing_${worker} as select * from busy limit 500`)
      await client.query(`truncate passing_${worker}`)
      await client.query(`drop table passing_${worker}`)
      await client.query(`update busy set text = 'changed' where id % 50 = ${i % 50}`)
      if (i % 5 === 4) await client.query('vacuum busy')
    }
  }
  const churning = [churn(1), churn(2)]
  await protection.takePoint(postgres)
  await protection.takePoint(postgres)
  ended.abort()
  await Promise.all(churning)

  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  const [settings] = await copy.query<{ port: string }>(`select current_setting('port') as port`)
  const check = [
    '-h',
    '127.0.0.1',
    '-p',
    settings?.port ?? '',
    '-U',
    'postgres',
    '--all',
    '--install-missing',
    '--heapallindexed',
  ]
  await execute('/usr/lib/postgresql/15/bin/pg_amcheck', check)
})

for (const [dataChecksums, what] of [
  [true, 'whose log has no whole pages'],
  [false, 'without data checksums'],
] as const)
  test(`of a cluster ${what} that gets the content of one database alone, that one is whole, and the others are shells to be dropped`, async (t) => {
    const postgres = await startPostgres(t, { major: 15, dataChecksums, settings: { autovacuum: 'off' } })
    const protection = await protect(t)
    const disk = await makeTablespace(t, postgres)
    await postgres.query('create database wanted')
    await postgres.query('create database "not; wanted" tablespace fast')
    const clients = await Promise.all(['wanted', 'not; wanted'].map((name) => postgres.connect(name)))
    for (const client of clients)
      await client.query(`create table t as select n, md5(n::text) from generate_series(1, 20000) n`)
    await protection.takePoint(postgres)
    const following = protection.follow(postgres)
    // As on file systems that never tear a page. Without checksums, a VACUUM alone refers to pages that are not in the log.
    if (dataChecksums) await postgres.query('alter system set full_page_writes = off')
    await postgres.query('select pg_reload_conf()')
    await postgres.query('checkpoint')
    // Log of both, on pages of before and new ones; and of a database that the point does not know.
    for (const client of clients) {
      if (!dataChecksums) await client.query('vacuum t')
      await client.query('update t set n = n + 1 where n % 7 = 0')
      await client.query('insert into t select n from generate_series(1, 1000) n')
      await client.query('vacuum t')
      await client.query('create index on t (n)')
      await client.query('analyze t')
    }
    await postgres.query('create database newer')
    await following.caughtUp()
    await following.stop()

    const folder = await temporaryDirectory(t)
    await assert.rejects(
      protection.restore(postgres, { kind: 'latest' }, join(folder, 'none'), { onlyDatabases: ['wantd'] }),
      { code: 'usage', hint: /wanted/ },
    )
    const directory = join(folder, 'restored')
    const tablespace = join(folder, 'elsewhere')
    const summary = await protection.restore(postgres, { kind: 'latest' }, directory, {
      start: true,
      onlyDatabases: ['wanted'],
      tablespaces: { [disk]: tablespace },
    })
    assert.deepEqual(summary.leftOut, ['not; wanted'])
    assert.match(summary.connection ?? '', /\/wanted$/)
    assert.match(protection.warnings.join('\n'), /DROP DATABASE "not; wanted";/)
    const copy = testPostgres(t, postgres.binaries, directory)
    await copy.adopt()
    const restored = await copy.connect('wanted')
    const { rows } = await restored.query<{ n: string; sum: string }>('select count(*) as n, sum(n) as sum from t')
    assert.deepEqual(rows, (await clients[0]!.query('select count(*) as n, sum(n) as sum from t')).rows)
    await assert.rejects(copy.connect('not; wanted'))
    await (await copy.connect('newer')).query('create table works (n int)')
    await copy.query('drop database "not; wanted"')
    await restored.end()
    const [settings] = await copy.query<{ port: string }>(`select current_setting('port') as port`)
    const server = await findRunningServer(directory)
    const stop = async (): Promise<void> => {
      if (server) await stopRunningServer(server)
    }
    if (dataChecksums) await assertSoundCluster(copy, Number(settings?.port), stop)
    else await stop()

    // Of one that is started by hand, whoever fetches the log prepares the pages.
    const byHand = join(folder, 'by-hand')
    const beside = { [disk]: join(folder, 'beside') }
    await protection.restore(postgres, { kind: 'latest' }, byHand, { onlyDatabases: ['wanted'], tablespaces: beside })
    const log = protection.repository.log('db')
    const guard = join(byHand, 'regain_recovery', 'guard.json')
    for (const { branch, name } of [...(await log.list()).segments, ...(await log.list()).tails].filter(
      ({ branch: of }) => of === '00000001',
    ))
      assert.ok(
        await fetchLog({
          store: log,
          name,
          target: join(byHand, 'pg_wal', name),
          spool: null,
          guard,
          signal: t.signal,
        }),
        branch,
      )
    const files = await readdir(join(folder, 'beside'), { recursive: true, withFileTypes: true })
    const contents = await Promise.all(
      files
        .filter((file) => /^\d+$/.test(file.name) && file.isFile())
        .map((file) => readFile(join(file.parentPath, file.name))),
    )
    assert.ok(contents.some((content) => content.includes(Buffer.alloc(8, 0xff))))
  })
