import assert from 'node:assert/strict'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import type { Fingerprint } from '../../src/model.ts'
import { compareFingerprints } from '../../src/sources/fingerprint.ts'
import { takeFingerprint } from '../../src/sources/postgres/fingerprint/take-fingerprint.ts'
import { parseConnectionUrl } from '../../src/sources/postgres/protocol/connection-url.ts'
import { ABSENT_EXIT } from '../../src/sources/postgres/recovery/fetch.ts'
import { RUN_FOLDER } from '../../src/sources/postgres/server/run-directory.ts'
import { findRunningServer, stopRunningServer } from '../../src/sources/postgres/server/running-server.ts'
import { jsonLines, LAUNCHER, runCommand, startCommand } from '../support/command.ts'
import { makeTablespace, startPostgres, temporaryDirectory } from '../support/postgres.ts'

/** One's own PostgreSQL, from regain init to the moment before the mistake, by the commands that a person types. */

interface Place {
  cwd: string
  environment: Record<string, string>
}

async function makePlace(t: TestContext, databaseUrl: string): Promise<Place> {
  const cwd = await temporaryDirectory(t)
  const { PATH = '' } = process.env
  const environment = { PATH, HOME: cwd, XDG_STATE_HOME: join(cwd, 'state'), SHOP_URL: databaseUrl }
  return { cwd, environment }
}

/** Runs with --json; gives the status, every line and the last. */
async function regain({ cwd, environment }: Place, ...args: string[]) {
  const { status, stdout, stderr } = await runCommand(LAUNCHER, [...args, '--json'], { cwd, env: environment })
  const lines = jsonLines(stdout)
  return { status, lines, last: lines.at(-1) ?? {}, stderr }
}

/** Asks until the window reaches `time`, as a person would; each question takes its time. */
async function waitForLog(place: Place, time: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { last } = await regain(place, 'points', 'shop')
    const sources = last.sources as { windows: { to: { time: string } }[] | null }[]
    if (sources[0]?.windows?.some(({ to }) => Date.parse(to.time) >= Date.parse(time))) return
  }
  assert.fail(`the log never reached ${time}`)
}

async function rowsAt(connection: unknown): Promise<string[]> {
  assert.equal(typeof connection, 'string')
  const client = new pg.Client({ connectionString: String(connection) })
  await client.connect()
  try {
    const { rows } = await client.query<{ word: string }>('select word from words order by word')
    return rows.map(({ word }) => word)
  } finally {
    await client.end()
  }
}

test("Debian's PostgreSQL 15: protected, a table dropped, and brought back to before", async (t) => {
  const postgres = await startPostgres(t, { major: 15 })
  const place = await makePlace(t, postgres.url())
  const { cwd, environment } = place
  const now = async () => {
    const [row] = await postgres.query<{ at: string }>(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
    )
    return row!.at
  }

  const init = await regain(
    place,
    'init',
    '--yes',
    '--service',
    'shop',
    '--postgres',
    '${SHOP_URL}',
    '--destination',
    'to',
  )
  assert.equal(init.status, 0, init.stderr)
  const check = await regain(place, 'check')
  assert.equal(check.status, 0, JSON.stringify(check.last))
  await postgres.query("create table words (word text); insert into words values ('before')")
  await makeTablespace(t, postgres)
  await postgres.query('create database on_disk tablespace fast')
  const other = await postgres.connect('on_disk')
  await other.query('create table elsewhere (n int)')
  await other.end()
  const backup = await regain(place, 'backup', 'shop')
  assert.equal(backup.status, 0, JSON.stringify(backup.last))
  const { last: listed } = await regain(place, 'points', 'shop')
  const [source] = listed.sources as { points: { fingerprint: Fingerprint }[] }[]
  const fingerprint = source!.points[0]!.fingerprint
  assert.deepEqual(
    fingerprint.databases.map(({ name, counts }) => [name, counts]),
    [
      ['on_disk', [{ table: 'public.elsewhere', rows: 0, how: 'exact' }]],
      ['postgres', [{ table: 'public.words', rows: 1, how: 'exact' }]],
    ],
  )

  const daemon = startCommand(LAUNCHER, ['serve'], { cwd, env: environment })
  try {
    await postgres.query("insert into words values ('after')")
    const onDisk = await postgres.connect('on_disk')
    await onDisk.query('drop table elsewhere')
    await onDisk.end()
    const good = await now()
    await postgres.query('drop table words')
    await waitForLog(place, await now())

    // A disaster: neither the database nor its password is needed to bring it back.
    daemon.child.kill('SIGTERM')
    const ended = await daemon.result
    assert.equal(ended.status, 0, ended.stderr)
    await postgres.stop()
    delete environment.SHOP_URL
    const refused = await regain(place, 'backup', 'shop')
    assert.deepEqual([refused.status, refused.last.code], [2, 'config-invalid'])

    // When was it dropped, and what is to be written after --at?
    const search = await regain(place, 'log', 'search', 'shop/db', '--table', 'words')
    assert.equal(search.status, 0, JSON.stringify(search.last))
    const losses = search.lines.filter(({ type }) => type === 'loss')
    assert.deepEqual(
      losses.map(({ kind, database, schema, table }) => [kind, database, schema, table]),
      [['drop', 'postgres', 'public', 'words']],
    )
    assert.deepEqual([search.last.operation, search.last.losses, search.last.notes], ['log-search', 1, []])
    const told = await runCommand(LAUNCHER, ['log', 'search', 'shop/db'], { cwd, env: environment })
    assert.ok(
      told.stdout.includes(`regain restore shop/db --to DIR --at ${String(losses[0]?.at)} --start`),
      told.stdout,
    )
    assert.ok(told.stdout.includes('  DROP TABLE  on_disk: public.elsewhere  '), told.stdout)
    const files = await regain(place, 'log', 'search', 'shop/db', '--from', '1f3a9c2e')
    assert.deepEqual([files.status, files.last.code], [2, 'usage'])

    const restored = join(cwd, 'restored')
    const exact = join(cwd, 'exact')
    const before = await regain(place, 'restore', 'shop', '--to', exact, '--at', String(losses[0]?.at), '--start')
    const first = await findRunningServer(exact)
    t.after(async () => {
      if (first !== null) await stopRunningServer(first)
    })
    assert.equal(before.status, 0, JSON.stringify(before.last))
    assert.deepEqual(await rowsAt(before.last.connection), ['after', 'before'])
    // What a drill would see: since the point a row was added and a table dropped.
    const config = parseConnectionUrl(String(before.last.connection))
    const there = await takeFingerprint({ config, signal: t.signal, now: Date.now, like: fingerprint })
    assert.deepEqual(
      compareFingerprints(fingerprint, there, { sameMoment: true }).map(({ database, what }) => `${database}: ${what}`),
      ['on_disk: schema', 'on_disk: table-missing', 'postgres: rows'],
    )

    const restore = await regain(place, 'restore', 'shop', '--to', restored, '--at', good, '--start')
    // Looked up now: hooks run in order, and the one that removes the directory comes before this one.
    const server = await findRunningServer(restored)
    t.after(async () => {
      if (server !== null) await stopRunningServer(server)
    })
    assert.equal(restore.status, 0, JSON.stringify(restore.last))
    assert.ok(Date.parse(String(restore.last.reached)) <= Date.parse(good))
    assert.deepEqual(await rowsAt(restore.last.connection), ['after', 'before'])
    // When it is stopped by whatever means, nothing of it is left outside its own directory.
    assert.equal(server?.socketDirectory, join(restored, RUN_FOLDER, 's'))
  } finally {
    daemon.child.kill('SIGKILL')
    await daemon.result
  }

  const preview = await runCommand(LAUNCHER, ['restore', 'shop', '--to', 'look', '--preview'], {
    cwd,
    env: environment,
  })
  assert.equal(preview.status, 0, preview.stderr)
  assert.ok(preview.stdout.includes(join(cwd, 'look.tablespaces')), preview.stdout)
  await mkdir(join(cwd, 'look.tablespaces/17000'), { recursive: true })
  const occupied = await regain(place, 'restore', 'shop', '--to', 'look', '--preview')
  assert.deepEqual([occupied.status, occupied.last.code], [6, 'target-not-empty'])

  const args = ['restore', 'shop', '--to', 'alone', '--preview', '--only-database']
  const alone = await regain(place, ...args, 'postgres')
  assert.equal(alone.status, 0, JSON.stringify(alone.last))
  const unknown = await regain(place, ...args, 'postgers')
  assert.deepEqual([unknown.status, unknown.last.code], [2, 'usage'])
  assert.match(String(unknown.last.message), /no database "postgers"/)

  const late = await regain(place, 'restore', 'shop', '--to', 'late', '--at', '2100-01-01T00:00:00Z')
  assert.deepEqual([late.status, late.last.code], [6, 'moment-unreachable'])

  // What a restored server without --start runs to get its log.
  await mkdir(join(cwd, 'wal'))
  const fetch = (name: string) =>
    regain(place, 'log', 'fetch', 'shop/db', name, 'wal/got', '--destination', 'local', '--spool', 'wal')
  const point = backup.last.point as { positions: { startLsn: string } }
  const segment = Number.parseInt(point.positions.startLsn.split('/')[1]!, 16) >>> 24
  const there = await fetch(`0000000100000000${segment.toString(16).toUpperCase().padStart(8, '0')}`)
  assert.deepEqual([there.status, there.last.found], [0, true], JSON.stringify(there.last))
  assert.equal((await stat(join(cwd, 'wal/got'))).size, 16 * 1024 * 1024)
  const absent = await fetch('0000000100000000000000FF')
  assert.deepEqual([absent.status, absent.last.found], [ABSENT_EXIT, false])
})

test('init makes up a role for a server that it finds, and leaves its password to this user alone', async (t) => {
  const postgres = await startPostgres(t, { major: 15 })
  const place = await makePlace(t, '')
  // Found by the folder of its socket, as PGHOST says.
  place.environment.PGHOST = postgres.server().socketDirectory
  place.environment.USER = 'anna'
  const init = await regain(place, 'init', '--yes', '--destination', 'to')
  assert.equal(init.status, 0, init.stderr)
  const sql = join(place.cwd, 'app-db.sql')
  const { socketDirectory, port } = postgres.server()
  // The folder that PGHOST names comes first, and neither it nor the port is what psql would take by itself.
  assert.equal(init.last.createRole, `sudo -u postgres psql -h ${socketDirectory} -p ${port} < ${sql}`)
  for (const file of [sql, join(place.cwd, 'app-db.url')]) assert.equal((await stat(file)).mode & 0o777, 0o600)

  const url = (await readFile(join(place.cwd, 'app-db.url'), 'utf8')).trim()
  assert.ok(url.includes(`:${port}/`), 'another server than the test’s own was taken')
  await postgres.query(await readFile(sql, 'utf8'))
  const check = await regain(place, 'check')
  assert.equal(check.status, 0, JSON.stringify(check.last))
  const backup = await regain(place, 'backup', 'app')
  assert.equal(backup.status, 0, JSON.stringify(backup.last))
})
