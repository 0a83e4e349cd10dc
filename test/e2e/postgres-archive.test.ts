import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { LogStore } from '../../src/sources/contract.ts'
import { pushLog as push } from '../../src/sources/postgres/log/push.ts'
import { fetchLog } from '../../src/sources/postgres/recovery/fetch.ts'
import { LAUNCHER, runCommand } from '../support/command.ts'
import { startPostgres, startStandby, type TestPostgres, temporaryDirectory } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'
import { MemoryLog } from '../support/postgres-recorders.ts'

/** From a folder that tells nothing of a cluster, unless the test says otherwise. */
function pushLog(request: { store: LogStore; path: string; workingDirectory?: string }): ReturnType<typeof push> {
  return push({ workingDirectory: tmpdir(), ...request })
}

/** All that was archived, oldest first, once a file is there whose name fits. */
async function archived(t: TestContext, folder: string, has: RegExp): Promise<string[]> {
  for (;;) {
    t.signal.throwIfAborted()
    const names = (await readdir(folder)).sort()
    if (names.some((name) => has.test(name))) return names
    await delay(50, undefined, { signal: t.signal })
  }
}

test('a log that only archive_command brings is as good: segments, a fork, and what must be refused', async (t) => {
  // The server hands over what it archives into a folder, as it would hand it to regain wal push.
  const folder = await temporaryDirectory(t, 'regain-archive-')
  await chmod(folder, 0o777)
  const primary = await startPostgres(t, {
    major: 15,
    walSegmentMegabytes: 1,
    settings: { archive_mode: 'on', archive_command: `test ! -e ${folder}/%f && cp %p ${folder}/%f` },
  })
  const standby = await startStandby(t, primary)
  const protection = await protect(t)
  const store = protection.repository.log('db')
  await protection.takePoint(primary)
  const rows = await writeRows(primary, 1, 2500)
  const [last] = await primary.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  const names = await archived(t, folder, new RegExp(`^${last?.name}$`))
  // With a note of the point's own backup among them.
  const first = names.filter((name) => !name.endsWith('.backup'))
  assert.ok(first.length > 3 && first.length < names.length)
  for (const name of first) assert.equal(await pushLog({ store, path: join(folder, name) }), 'stored')
  const listing = await store.list()
  for (const name of first)
    assert.ok(
      listing.segments.some((segment) => segment.name === name),
      name,
    )
  const newest = await store.read('00000001', first.at(-1)!)
  assert.equal(newest?.meta.follows, first.at(-2))
  // Known to be complete up to the last commit, which is what a row's time lies right behind.
  assert.ok(Date.parse(newest?.meta.until ?? '') >= Date.parse(rows.at(-2)?.at ?? ''))
  assert.ok(Date.parse(newest?.meta.until ?? '') <= Date.parse(rows.at(-1)?.at ?? ''))

  // The same again, twice at once, is fine. Other bytes, another cluster's, a part, a wrong name: nothing changes.
  const path = join(folder, first.at(-1)!)
  await Promise.all([pushLog({ store, path }), pushLog({ store, path })])
  const forged = join(await temporaryDirectory(t), first.at(-1)!)
  const bytes = await readFile(path)
  const refuse = async (change: (copy: Buffer) => Buffer, error: { code: string; message?: RegExp }, name?: string) => {
    const file = name === undefined ? forged : join(forged, '..', name)
    await writeFile(file, change(Buffer.from(bytes)))
    await assert.rejects(pushLog({ store, path: file }), error)
  }
  const flip = (copy: Buffer) => {
    copy[5000] = copy[5000]! ^ 1
    return copy
  }
  await refuse(flip, { code: 'log-conflict', message: /OTHER BYTES UNDER THE NAME.*Nothing was stored/ })
  const foreign = (copy: Buffer) => {
    copy.writeBigUInt64LE(7n, 24)
    return copy
  }
  await refuse(foreign, { code: 'log-conflict', message: /another cluster \(system identifier 7\)/ })
  await refuse((copy) => copy.subarray(0, 8192), { code: 'source-unsuitable', message: /8192 bytes/ })
  await refuse((copy) => copy, { code: 'source-unsuitable', message: /it begins at/ }, '0000000100000000000000FF')
  // A history that was cut short, and would stand in the way of the right one for good.
  for (const text of ['', '1\t0/30', 'no history\n'])
    await refuse(
      () => Buffer.from(text),
      { code: 'source-unsuitable', message: /no whole history/ },
      '00000003.history',
    )
  await refuse((copy) => copy, { code: 'usage' }, 'postgresql.conf')
  const note = names.find((name) => name.endsWith('.backup')) ?? ''
  assert.equal(await pushLog({ store, path: join(folder, note) }), 'not-needed')
  assert.ok((await store.read('00000001', first.at(-1)!))?.bytes.equals(bytes))
  assert.deepEqual((await store.list()).histories, ['system'])

  // Another cluster's history of the same number, from its own pg_wal; and one of which nobody can tell whose it is.
  const other = await startPostgres(t, { major: 15 })
  const history = '1\t0/3000000\tno recovery target specified\n'
  const theirs = join(other.directory, 'pg_wal', '00000002.history')
  await writeFile(theirs, history)
  await assert.rejects(pushLog({ store, path: theirs }), { code: 'log-conflict', message: /is another cluster/ })
  const nobodys = join(await temporaryDirectory(t), '00000002.history')
  await writeFile(nobodys, history)
  await assert.rejects(pushLog({ store, path: nobodys }), { code: 'precondition-failed', message: /Whose timeline/ })
  const workingDirectory = other.directory
  await assert.rejects(pushLog({ store, path: nobodys, workingDirectory }), { code: 'log-conflict' })
  assert.deepEqual((await store.list()).histories, ['system'])
  await other.stop()

  // Promotion: what is left of the old timeline, its history, the new timeline. All in one more time, out of order.
  await primary.stop()
  await standby.query('select pg_promote()')
  await writeRows(standby, 3001, 3005)
  await standby.query('select pg_switch_wal()')
  const all = await archived(t, folder, /^00000002[0-9A-F]{16}$/)
  assert.ok(all.includes('00000002.history') && all.some((name) => name.endsWith('.partial')), all.join(' '))
  // From where the server has it, where it was copied alone, and beside the rest of an archive.
  const own = join(standby.directory, 'pg_wal', '00000002.history')
  assert.equal(await pushLog({ store, path: own }), 'stored')
  await writeFile(nobodys, await readFile(own))
  assert.equal(await pushLog({ store, path: nobodys, workingDirectory: standby.directory }), 'stored')
  for (const name of all.reverse()) await pushLog({ store, path: join(folder, name) })
  const partial = all.find((name) => name.endsWith('.partial'))?.slice(0, 24)
  assert.deepEqual(
    (await store.list()).tails.map(({ name }) => name),
    [partial],
  )
  const { postgres: copy } = await protection.recover(standby, { kind: 'latest' })
  assert.deepEqual((await readRows(copy)).length, 2505)
})

test('regain wal push and fetch: exit statuses that PostgreSQL understands', async (t) => {
  const postgres = await startPostgres(t, { major: 18, walSegmentMegabytes: 1 })
  const directory = await temporaryDirectory(t)
  const config = join(directory, 'regain.yaml')
  await writeFile(
    config,
    `version: 1
state: state
destinations: { one: { type: local, path: one }, two: { type: local, path: two } }
keys: { main: { type: file, path: main.key } }
services: { shop: { sources: { db: { type: postgres, url: "\${NOT_SET_FOR_THE_SERVER}" , log: none } }, retention: keep-all } }
`,
  )
  const regain = (...args: string[]) => runCommand(LAUNCHER, ['-q', '-c', config, ...args])
  assert.equal((await regain('init', '--yes')).status, 0)
  const [row] = await postgres.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  const segment = join(postgres.directory, 'pg_wal', row?.name ?? '')
  assert.equal((await regain('wal', 'push', 'shop/db', segment)).status, 0)
  assert.equal((await regain('wal', 'push', 'shop/db', segment)).status, 0)
  const missing = await regain('wal', 'push', 'shop/db', `${segment.slice(0, -2)}FF`)
  assert.ok(missing.status !== 0 && missing.status !== null && missing.status <= 125, missing.stderr)

  const target = join(directory, 'data', 'pg_wal', 'RECOVERYXLOG')
  await mkdir(join(target, '..'), { recursive: true })
  for (const destination of ['one', 'two']) {
    const fetched = await regain('wal', 'fetch', '--destination', destination, 'shop/db', row?.name ?? '', target)
    assert.equal(fetched.status, 0, fetched.stderr)
    assert.ok((await readFile(target)).equals(await readFile(segment)))
  }
  assert.equal((await regain('wal', 'fetch', 'shop/db', '000000010000000000000099', target)).status, 1)
  assert.equal((await regain('wal', 'fetch', 'shop/db', '00000009.history', target)).status, 1)
  // Whatever is not "no such file" must stop recovery.
  for (const wrong of [
    ['shop/db', row?.name ?? ''],
    ['shop/gone', row?.name ?? '', target],
    ['shop/db', row?.name ?? '', join(target, 'x')],
  ])
    assert.equal((await regain('wal', 'fetch', ...wrong)).status, 255, wrong.join(' '))
})

test('a server of another cluster gets no log of this one', async (t) => {
  const [one, other] = [await startPostgres(t, { major: 14 }), await startPostgres(t, { major: 14 })]
  const [row] = await one.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  const store = new MemoryLog()
  const name = row?.name ?? ''
  await pushLog({ store, path: join(one.directory, 'pg_wal', name) })
  const ask = (postgres: TestPostgres) =>
    fetchLog({
      store,
      name,
      target: join(postgres.directory, 'pg_wal', 'RECOVERYXLOG'),
      spool: null,
      guard: null,
      signal: t.signal,
    })
  await assert.rejects(ask(other), { code: 'log-conflict', message: /server that asks is another cluster/ })
  assert.equal(await ask(one), true)
})
