import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres, startStandby } from '../../../../test/support/postgres.ts'
import { MemoryLog, testAmbient } from '../../../../test/support/postgres-recorders.ts'
import { createLogFollower } from './follower.ts'
import { createLogGuard } from './log-guard.ts'

const SLOT = 'regain_test'

test('what the slot keeps is seen, with the disk and the server’s own limit, and let go of while it is in use', async (t) => {
  const postgres = await startPostgres(t, { major: 13, walSegmentMegabytes: 1 })
  const config = { url: postgres.url(), slot: SLOT, askSizeFromBytes: 3_000_000 }
  const guard = createLogGuard(config)
  assert.deepEqual(await guard.look(t.signal), [])

  // A store that stands still: the follower holds on to its slot.
  const store = new MemoryLog()
  const stopped = Promise.withResolvers<void>()
  const follow = () => {
    const streams = Promise.withResolvers<void>()
    const options = { signal: t.signal, warn: () => undefined, status: () => streams.resolve() }
    const ended = createLogFollower({ url: postgres.url(), slot: SLOT, tailMs: 50 }, store, testAmbient()).run(options)
    ended.catch(() => undefined)
    return { ended, streams: streams.promise }
  }
  const following = follow()
  await following.streams
  const [little] = await guard.look(t.signal)
  assert.ok(little && little.keptBytes < 2e6 && little.ownLimitBytes === null && little.dataBytes === null)
  assert.match(little.server, /^127\.0\.0\.1:\d+$/)
  // As root everything of this machine can be seen.
  if (process.getuid?.() === 0) assert.ok(little.disk && little.disk.totalBytes > little.disk.freeBytes)

  store.onPut = () => stopped.promise
  await postgres.query('create table filler as select repeat(md5(g::text), 20) from generate_series(1, 8000) g')
  await postgres.query(`alter system set max_slot_wal_keep_size = '64MB'`)
  await postgres.query('select pg_reload_conf()')
  const [much] = await guard.look(t.signal)
  assert.ok(much && much.keptBytes > 4e6 && (much.dataBytes ?? 0) > 5e6)
  assert.equal(much.ownLimitBytes, 64 * 1024 * 1024)

  await guard.giveUp(much, t.signal)
  assert.deepEqual(await guard.look(t.signal), [])
  stopped.resolve()
  await assert.rejects(following.ended, { code: 'source-unavailable' })
  await guard.giveUp(much, t.signal)
  await follow().streams
  assert.equal((await guard.look(t.signal)).length, 1)
})

test('a slot that is left on another host of the cluster is seen as well', async (t) => {
  const primary = await startPostgres(t, { major: 17 })
  const standby = await startStandby(t, primary)
  for (const server of [primary, standby])
    await server.query(`select pg_create_physical_replication_slot('${SLOT}', true)`)
  const hosts = [primary, standby].map((server) => `127.0.0.1:${server.server().port}`)
  const url = `postgres://postgres@${hosts.join(',')}/?target_session_attrs=primary`
  const guard = createLogGuard({ url, slot: SLOT, askSizeFromBytes: 1e12 })
  const kept = await guard.look(t.signal)
  assert.deepEqual(
    kept.map(({ server, isFollowed }) => [server, isFollowed]),
    [
      [hosts[0], true],
      [hosts[1], false],
    ],
  )
  await guard.giveUp(kept[1]!, t.signal)
  assert.deepEqual(
    (await guard.look(t.signal)).map(({ server }) => server),
    hosts.slice(0, 1),
  )
})
