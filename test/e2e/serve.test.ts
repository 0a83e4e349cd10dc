import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import { type Catalog, type FollowerRow, openCatalog } from '../../src/catalog/catalog.ts'
import { stopServerOf } from '../../src/demo/acts.ts'
import { waitFor } from '../../src/demo/wait.ts'
import { jsonLines, LAUNCHER, runCommand, startCommand } from '../support/command.ts'
import { startPostgres, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'
import { testAmbient } from '../support/repository.ts'

/** A service of one cluster and one folder, with its configuration, keys and repository made. */
interface Setting {
  postgres: TestPostgres
  directory: string
  config: string
  catalog: Catalog
  regain(...args: string[]): ReturnType<typeof runCommand>
  writeConfig(changes?: { files?: string; broken?: boolean; second?: boolean; slotLimit?: string }): Promise<void>
}

async function prepare(t: TestContext, settings: Record<string, string> = {}): Promise<Setting> {
  const postgres = await startPostgres(t, { password: 'secret of this test', settings })
  await postgres.query('create table events (id int primary key)')
  const directory = await temporaryDirectory(t, 'regain-serve-')
  await mkdir(join(directory, 'uploads'))
  await mkdir(join(directory, 'more'))
  await writeFile(join(directory, 'uploads', 'a'), 'content')
  await writeFile(join(directory, 'url'), postgres.url(), { mode: 0o600 })
  const config = join(directory, 'regain.yaml')
  const writeConfig: Setting['writeConfig'] = async (changes = {}) => {
    const { files = 'uploads', broken = false, second = false, slotLimit = 'auto' } = changes
    await writeFile(
      config,
      `version: 1
state: state
destinations: { local: { type: local, path: backups }${second ? ', second: { type: local, path: elsewhere }' : ''} }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    sources:
      db: { type: postgres, url: "file:url", log: continuous, tail: 1s, slotLimit: ${slotLimit}${broken ? ', slots: 7' : ''} }
      ${files}: { type: files, paths: [${files}] }
    schedule: { full: "0 0 1 1 *" }
    retention: keep-all
`,
    )
  }
  await writeConfig()
  const regain: Setting['regain'] = (...args) => runCommand(LAUNCHER, ['--config', config, ...args])
  const made = await regain('init', '--yes')
  assert.equal(made.status, 0, made.stderr)
  const catalog = openCatalog({ directory: join(directory, 'state'), ambient: testAmbient(), pid: process.pid })
  t.after(() => catalog.close())
  return { postgres, directory, config, catalog, regain, writeConfig }
}

/** `regain serve --json`, whose log the test reads line by line. */
function serve(t: TestContext, { config }: Pick<Setting, 'config'>) {
  const { child, result } = startCommand(LAUNCHER, ['--config', config, '--json', 'serve'])
  t.after(() => end(child, 'SIGKILL'))
  const lines: Record<string, unknown>[] = []
  let rest = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString('latin1')).split('\n')
    rest = parts.pop() ?? ''
    lines.push(...parts.map((line) => JSON.parse(line) as Record<string, unknown>))
  })
  const logged = (message: string, times = 1) =>
    waitFor(`"${message}" in the log, ${times} times`, 60_000, t.signal, () => {
      if (child.exitCode !== null) throw new Error(`serve ended: ${JSON.stringify(lines)}`)
      return lines.filter((line) => String(line.message).startsWith(message)).length >= times || null
    })
  return { child, result, lines, logged }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}

function follower(t: TestContext, { catalog }: Setting, what: string, is: (row: FollowerRow) => boolean) {
  return waitFor(`the follower being ${what}`, 60_000, t.signal, () => {
    const [row] = catalog.followers()
    return row && is(row) ? row : null
  })
}

/** Restores the newest state into a running server, and gives what `events` holds. */
async function restoredEvents(setting: Setting, name: string, destination = 'local'): Promise<number[]> {
  const target = join(setting.directory, name)
  try {
    const args = ['restore', 'shop/db', '--destination', destination, '--to', target, '--start']
    const restored = await setting.regain('--json', ...args)
    assert.equal(restored.status, 0, restored.stdout + restored.stderr)
    const [, , , port] = (await readFile(join(target, 'postmaster.pid'), 'utf8')).split('\n')
    const url = new URL(setting.postgres.url())
    url.port = String(port)
    const client = new pg.Client({ connectionString: url.href })
    await client.connect()
    try {
      const { rows } = await client.query<{ id: number }>('select id from events order by id')
      return rows.map(({ id }) => id)
    } finally {
      await client.end()
    }
  } finally {
    // Before the test's directory is removed: a server whose files are gone lives on for a while.
    await stopServerOf(target)
  }
}

test('takes the first points, follows the log, and loses nothing when it is asked to end', async (t) => {
  const setting = await prepare(t)
  const { postgres, catalog, regain } = setting
  const { child, result, logged } = serve(t, setting)
  await logged('The backup is complete.', 2)
  await follower(t, setting, 'streaming', ({ state }) => state === 'streaming')
  assert.deepEqual(
    catalog
      .runs({ operation: 'backup' })
      .map(({ source, outcome, origin, kind }) => [source, outcome, origin, kind])
      .sort(),
    [
      ['db', 'complete', 'schedule', 'full'],
      ['uploads', 'complete', 'schedule', 'full'],
    ],
  )
  assert.equal(catalog.daemon()?.pid, child.pid)

  const second = await regain('serve')
  assert.equal(second.status, 6)
  assert.ok(second.stderr.includes(`process ${child.pid}`), second.stderr)

  const lock = catalog.lockSource('shop', 'db', 'this test')
  const byHand = await regain('--json', 'backup', 'shop/db')
  lock.release()
  assert.equal(byHand.status, 6, byHand.stdout)
  assert.ok(String(jsonLines(byHand.stdout).at(-1)?.message).includes(`this test, process ${process.pid}`))
  assert.equal((await regain('backup', 'shop/db')).status, 0)

  await postgres.query('insert into events select generate_series(1, 100)')
  child.kill('SIGTERM')
  assert.equal((await result).status, 0)
  assert.equal(catalog.followers()[0]?.state, 'stopped')
  assert.notEqual(catalog.daemon()?.stoppedAt, null)
  assert.equal((await restoredEvents(setting, 'restored')).length, 100)
})

test('with two destinations each has points and a log of its own, and recovers alone', async (t) => {
  const setting = await prepare(t)
  await setting.writeConfig({ second: true })
  assert.equal((await setting.regain('init', '--yes')).status, 0)
  const { child, result, logged } = serve(t, setting)
  await logged('The backup is complete.', 4)
  await follower(t, setting, 'streaming', ({ state }) => state === 'streaming')
  await setting.postgres.query('insert into events select generate_series(1, 10)')
  child.kill('SIGTERM')
  assert.equal((await result).status, 0)
  for (const destination of ['local', 'second']) {
    assert.equal((await restoredEvents(setting, `from-${destination}`, destination)).length, 10, destination)
  }
})

test('asked to end in the middle of a backup, it gives the backup up and nothing of it is visible', async (t) => {
  const directory = await temporaryDirectory(t, 'regain-serve-')
  await mkdir(join(directory, 'uploads'))
  const config = join(directory, 'regain.yaml')
  // Reading begins when the application is at rest, which takes longer than this test waits.
  await writeFile(
    config,
    `version: 1
state: state
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services: { shop: { sources: { uploads: { type: files, paths: [uploads], before: "sleep 600" } }, schedule: { full: "0 0 1 1 *" }, retention: keep-all } }
`,
  )
  const regain = (...args: string[]) => runCommand(LAUNCHER, ['--config', config, ...args])
  assert.equal((await regain('init', '--yes')).status, 0)
  const { child, result, logged } = serve(t, { config })
  await logged('A backup begins.')
  child.kill('SIGTERM')
  assert.equal((await result).status, 0)
  const catalog = openCatalog({ directory: join(directory, 'state'), ambient: testAmbient(), pid: process.pid })
  t.after(() => catalog.close())
  assert.deepEqual(
    catalog.runs().map(({ outcome }) => outcome),
    ['interrupted'],
  )
  const points = jsonLines((await regain('--json', 'points', 'shop')).stdout)
  assert.ok(
    points.every((line) => line.type !== 'result' || !JSON.stringify(line).includes('committedAt')),
    JSON.stringify(points),
  )
})

test('survives a crash of the server, its own, and a broken configuration, without a gap', async (t) => {
  const setting = await prepare(t)
  const { postgres, writeConfig } = setting
  const first = serve(t, setting)
  await first.logged('The backup is complete.', 2)
  await follower(t, setting, 'streaming', ({ state }) => state === 'streaming')

  await postgres.query('insert into events values (1)')
  await postgres.crash()
  await follower(t, setting, 'waiting', ({ state, error }) => state === 'waiting' && error !== null)
  await postgres.start()
  await follower(t, setting, 'streaming again', ({ state, restarts }) => state === 'streaming' && restarts > 0)

  await writeConfig({ broken: true })
  first.child.kill('SIGHUP')
  await first.logged('THE NEW CONFIGURATION WAS REFUSED')
  await writeConfig({ files: 'more' })
  first.child.kill('SIGHUP')
  await first.logged('The configuration was read again')
  await first.logged('The backup is complete.', 3)
  assert.ok(first.lines.some(({ source, message }) => source === 'shop/more' && message === 'A backup begins.'))

  await postgres.query('insert into events values (2)')
  await end(first.child, 'SIGKILL')
  await postgres.query('insert into events values (3)')
  const second = serve(t, setting)
  const since = Date.now()
  await follower(t, setting, 'past the kill', ({ state, durableUntil }) => {
    return state === 'streaming' && Date.parse(durableUntil ?? '') > since
  })
  await postgres.query('insert into events values (4)')
  second.child.kill('SIGINT')
  assert.equal((await second.result).status, 0)
  assert.ok(!second.lines.some(({ message }) => String(message).startsWith('A new point is needed')))
  assert.deepEqual(await restoredEvents(setting, 'restored'), [1, 2, 3, 4])
})

test('the repository is away while the server writes: the slot goes before the disk is full, and a new point begins anew', async (t) => {
  const setting = await prepare(t, { max_wal_size: '32MB', min_wal_size: '32MB', wal_keep_size: '0' })
  const { postgres, directory, writeConfig } = setting
  await writeConfig({ slotLimit: '60MB' })
  const first = serve(t, setting)
  await first.logged('The backup is complete.', 2)
  await follower(t, setting, 'streaming', ({ state }) => state === 'streaming')
  await postgres.query('insert into events values (1)')
  first.child.kill('SIGTERM')
  await first.result

  const write = async () => {
    await postgres.query(
      `create table filler as select repeat(md5(g::text), 20) as x from generate_series(1, 100000) g`,
    )
    await postgres.query('drop table filler')
    await postgres.query('checkpoint')
  }
  const kept = async () => {
    const [row] = await postgres.query<{ bytes: string }>('select sum(size) as bytes from pg_ls_waldir()')
    return Number(row?.bytes)
  }
  await rename(join(directory, 'backups'), join(directory, 'away'))
  await write()
  await postgres.query('insert into events values (2)')
  assert.ok((await kept()) > 60e6)
  const second = serve(t, setting)
  await second.logged('THE SERVER IS TOLD TO FORGET LOG')
  await second.logged('The replication slot was dropped.')
  await write()
  // The server is rid of it.
  assert.ok((await kept()) < 60e6, String(await kept()))
  second.child.kill('SIGTERM')
  await second.result

  await rename(join(directory, 'away'), join(directory, 'backups'))
  const third = serve(t, setting)
  await third.logged('A new point is needed: the server no longer has the WAL from')
  await third.logged('The backup is complete.')
  await postgres.query('insert into events values (3)')
  const log = join(directory, 'backups', 'shop', 'log', 'db', 'segments', '00000001')
  const before = new Set(await readdir(log))
  await write()
  third.child.kill('SIGTERM')
  await third.result
  assert.deepEqual(await restoredEvents(setting, 'restored'), [1, 2, 3])
  // No silent gap: the first window says why it ends.
  const told = await setting.regain('points', 'shop/db')
  assert.match(told.stdout + told.stderr, /the log from .* to .* is missing/)

  // A break that nobody remembers any more, behind the newest point: the next start finds it in the repository.
  const later = (await readdir(log)).filter((name) => !before.has(name)).sort()
  assert.ok(later.length > 2)
  await rm(join(log, later.at(-2) ?? ''))
  const fourth = serve(t, setting)
  await fourth.logged('A new point is needed: the log in local has a break behind its last point')
  await fourth.logged('The backup is complete.')
  fourth.child.kill('SIGTERM')
  await fourth.result
})
