import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import type { PointReader } from '../../src/sources/contract.ts'
import { withSandbox } from '../../src/sources/postgres/parts/sandbox.ts'
import { withSql } from '../../src/sources/postgres/protocol/connection.ts'
import { findNewTablespaces } from '../../src/sources/postgres/recovery/new-tablespaces.ts'
import { uidsIn } from '../../src/sources/postgres/server/server-user.ts'
import { makeTablespace, startPostgres } from '../support/postgres.ts'
import { protect } from '../support/postgres-protection.ts'

/** What the copy could do to the world, and does not. */

for (const major of [15, 18])
  test(`PostgreSQL ${major}: a sandbox archives, connects, schedules and listens nowhere; a library that is not here is left out`, async (t) => {
    const settings = { archive_mode: 'on', archive_command: 'true' }
    const postgres = await startPostgres(t, { major, settings })
    const protection = await protect(t)
    const point = await protection.takePoint(postgres)
    const plan = await protection.plan({ kind: 'point', id: point.id })
    const opened = await protection.repository.openPoint(point.id, { signal: t.signal })
    t.after(() => opened.close())
    // As if the original loaded a library that nobody installed here.
    const positions = point.positions as { settings: Record<string, string> }
    const altered = { ...positions, settings: { ...positions.settings, shared_preload_libraries: 'not_installed' } }
    const reader = new Proxy<PointReader>(opened, {
      get: (target, name) => {
        if (name === 'point') return { ...point, positions: altered }
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const warnings: string[] = []
    const options = {
      signal: t.signal,
      progress: () => undefined,
      warn: (message: string) => void warnings.push(message),
    }
    const request = {
      reader,
      plan,
      store: protection.repository.log('db'),
      binaries: postgres.binaries,
      user: 'postgres',
      options,
    }
    await withSandbox(request, async (sandbox) => {
      await withSql(sandbox.connection('postgres'), t.signal, async (client) => {
        const one = async (sql: string): Promise<string> => {
          const { rows } = await client.query<Record<string, unknown>>(sql)
          return rows.map((row) => Object.values(row).join('|')).join('\n')
        }
        const run = async (command: string): Promise<string> => {
          await client.query('create temp table if not exists said (line text)')
          await client.query(`truncate said; copy said from program '${command}' with (delimiter E'\\x01')`)
          return one('select line from said')
        }
        assert.equal(await one('show archive_mode'), 'off')
        assert.equal(await one('show listen_addresses'), '')
        assert.equal(await one('show shared_preload_libraries'), '')
        const workers = `select backend_type from pg_stat_activity where pid <> pg_backend_pid() and backend_type <> 'io worker' order by 1`
        assert.deepEqual((await one(workers)).split('\n'), ['background writer', 'checkpointer', 'walwriter'])
        const interfaces = (await run('cat /proc/self/net/dev')).split('\n').slice(2)
        assert.deepEqual(
          interfaces.map((line) => line.trim().split(':')[0]),
          ['lo'],
        )
        const uid = Number(await run('id -u'))
        if (process.getuid?.() === 0) assert.ok(!uidsIn(await readFile('/etc/passwd', 'utf8')).has(uid), String(uid))
      })
    })
    assert.match(warnings.join('\n'), /not_installed/)
  })

test('the folder of a tablespace that was made after the point is not touched', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can give the sandbox a user of its own')
  const postgres = await startPostgres(t, { major: 15 })
  const protection = await protect(t)
  const following = protection.follow(postgres)
  const point = await protection.takePoint(postgres)
  const disk = await makeTablespace(t, postgres)
  await postgres.query('create table kept tablespace fast as select n from generate_series(1, 1000) n')
  await postgres.query('checkpoint')
  await following.caughtUp()
  await following.stop()
  const plan = await protection.plan({ kind: 'latest' })
  assert.equal(plan.point, point.id)
  // Who is not root has no such user: the log is not handed over.
  const log = protection.repository.log('db')
  assert.deepEqual([...(await findNewTablespaces({ point, plan }, log, t.signal))], [disk])
  const early = await protection.plan({ kind: 'lsn', lsn: String(point.positions.stopLsn) })
  assert.deepEqual([...(await findNewTablespaces({ point, plan: early }, log, t.signal))], [])

  const reader = await protection.repository.openPoint(point.id, { signal: t.signal })
  t.after(() => reader.close())
  const options = { signal: t.signal, progress: () => undefined, warn: () => undefined }
  const request = {
    reader,
    plan,
    store: protection.repository.log('db'),
    binaries: postgres.binaries,
    user: 'postgres',
    options,
  }
  await assert.rejects(
    withSandbox(request, async () => undefined),
    { code: 'precondition-failed', message: new RegExp(disk) },
  )
  await postgres.start()
  assert.deepEqual(await postgres.query('select count(*)::int from kept'), [{ count: 1000 }])
})
