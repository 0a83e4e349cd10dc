import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Following, follow as followUntilEnd } from '../../../../test/support/following.ts'
import { startPostgres, type TestPostgres } from '../../../../test/support/postgres.ts'
import { MemoryLog, testAmbient } from '../../../../test/support/postgres-recorders.ts'
import type { LogMeta } from '../../contract.ts'
import { parseLsn } from '../protocol/lsn.ts'
import { createLogFollower, type FollowerConfig, parseDurationMs } from './follower.ts'
import { segmentName, segmentNumber } from './wal.ts'

const MIB = 1024 * 1024

/** A crash may come after any call: what is durable of an unfinished segment must never become less. */
class TailKeeper extends MemoryLog {
  override async putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: LogMeta): Promise<void> {
    const before = this.tails.get(`${branch}/${name}`)?.bytes ?? Buffer.alloc(0)
    await super.putTail(branch, name, offset, bytes, meta)
    const after = this.tails.get(`${branch}/${name}`)?.bytes ?? Buffer.alloc(0)
    assert.ok(
      after.subarray(0, before.length).equals(before),
      `${name} shrank from ${before.length} to ${after.length}`,
    )
  }
}

function follow(
  t: TestContext,
  postgres: TestPostgres,
  store: MemoryLog,
  config: Partial<FollowerConfig> = {},
): Following {
  const follower = createLogFollower(
    { url: postgres.url(), slot: 'regain_test', tailMs: 100, ...config },
    store,
    testAmbient(),
  )
  return followUntilEnd(t, postgres, (options) =>
    follower.run({
      ...options,
      status: (status) => {
        const { durableUntil } = status
        assert.ok(durableUntil === null || durableUntil > '2020', `durable until ${durableUntil}`)
        options.status(status)
      },
    }),
  )
}

/** What the server's own files hold, for comparison. */
async function serverSegment(postgres: TestPostgres, name: string, length: number): Promise<Buffer> {
  const [row] = await postgres.query<{ bytes: Buffer }>(`select pg_read_binary_file('pg_wal/' || $1, 0, $2) as bytes`, [
    name,
    length,
  ])
  return row?.bytes ?? Buffer.alloc(0)
}

async function write(postgres: TestPostgres, rows: number): Promise<void> {
  await postgres.query(`create table if not exists filler (n int, text text)`)
  await postgres.query(`insert into filler select g, repeat(md5(g::text), 20) from generate_series(1, ${rows}) g`)
}

for (const [major, walSegmentMegabytes] of [
  [13, 16],
  [15, 1],
  [18, 1],
] as const) {
  test(`version ${major}: segments of ${walSegmentMegabytes} MiB and the tail are the server's own bytes`, async (t) => {
    const postgres = await startPostgres(t, { major, walSegmentMegabytes })
    const store = new TailKeeper()
    const following = follow(t, postgres, store, { tailMs: 20 })
    for (let i = 0; i < 5; i++) await write(postgres, 1000 * walSegmentMegabytes)
    await following.caughtUp()
    assert.ok(store.segments.size >= 1)
    for (const [key, { bytes }] of store.segments) {
      const name = key.slice(9)
      assert.equal(bytes.length, walSegmentMegabytes * MIB)
      assert.ok((await serverSegment(postgres, name, bytes.length)).equals(bytes), name)
    }
    const [tail] = [...store.tails]
    assert.ok(tail)
    assert.ok((await serverSegment(postgres, tail[0].slice(9), tail[1].bytes.length)).equals(tail[1].bytes))
    const [slot] = await postgres.query<{ restart: string }>(
      'select restart_lsn::text as restart from pg_replication_slots',
    )
    assert.ok(parseLsn(slot?.restart ?? '') <= parseLsn(following.status().durable))
    assert.deepEqual(following.warnings, [])
    await following.stop()
  })
}

test('a follower that is stopped or killed goes on where the store ends, without a gap', async (t) => {
  const postgres = await startPostgres(t, { walSegmentMegabytes: 1 })
  const store = new MemoryLog()
  for (let round = 0; round < 3; round++) {
    const following = follow(t, postgres, store)
    await write(postgres, 2000)
    await following.caughtUp()
    await following.stop()
    await write(postgres, 2000)
  }
  const following = follow(t, postgres, store)
  await following.caughtUp()
  const numbers = [...store.segments.keys()].map((key) => Number.parseInt(key.slice(-8), 16)).sort((a, b) => a - b)
  assert.ok(numbers.length > 5)
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => (numbers[0] ?? 0) + i),
  )
  assert.deepEqual(following.warnings, [])
})

test('log that a point stored while the follower was down leaves no gap behind it', async (t) => {
  const postgres = await startPostgres(t, { walSegmentMegabytes: 1 })
  const store = new MemoryLog()
  const first = follow(t, postgres, store)
  await first.caughtUp()
  await first.stop()
  await write(postgres, 6000)
  // What a backup leaves: segments ahead of where the follower stopped.
  const [row] = await postgres.query<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
  await postgres.query('select pg_switch_wal()')
  const ahead = row?.name ?? ''
  await store.putSegment('00000001', ahead, await serverSegment(postgres, ahead, MIB), {
    until: new Date(0).toISOString(),
  })
  const second = follow(t, postgres, store)
  await write(postgres, 1000)
  await second.caughtUp()
  const numbers = [...store.segments.keys()].map((key) => Number.parseInt(key.slice(-8), 16)).sort((a, b) => a - b)
  assert.ok(numbers.length >= 4)
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => (numbers[0] ?? 0) + i),
  )
  assert.deepEqual(second.warnings, [])
})

test('an idle log’s last piece says now and then that nothing happened', async (t) => {
  const postgres = await startPostgres(t)
  const store = new MemoryLog()
  const following = follow(t, postgres, store, { tailMs: 30 })
  await write(postgres, 1)
  await following.caughtUp()
  const [clock] = await postgres.query<{ now: Date }>('select clock_timestamp() as now')
  const goal = (clock?.now.getTime() ?? 0) + 1000
  const until = (): number => Math.max(...[...store.tails.values()].map(({ meta }) => Date.parse(meta.until)))
  while (until() < goal) {
    const put = Promise.withResolvers<void>()
    store.onPut = async () => put.resolve()
    await put.promise
  }
})

test('every commit older than the tail interval survives kill -9 of the server and the loss of its disk', async (t) => {
  const postgres = await startPostgres(t)
  const store = new MemoryLog()
  const following = follow(t, postgres, store)
  await write(postgres, 100)
  await following.caughtUp()
  const durable = parseLsn(following.status().durable)
  await postgres.crash()
  await assert.rejects(following.ended, { code: 'source-unavailable' })
  const name = segmentName(1, segmentNumber(durable, 16 * MIB), 16 * MIB)
  const tail = store.tails.get(`00000001/${name}`)
  assert.ok(tail && tail.bytes.length >= Number(durable % BigInt(16 * MIB)))
  // The same server again: it goes on in the same segment, and the follower with it.
  await postgres.start()
  const again = follow(t, postgres, store)
  await postgres.query('select pg_switch_wal()')
  await again.caughtUp()
  assert.ok(store.segments.has(`00000001/${name}`))
  assert.ok(!store.tails.has(`00000001/${name}`))
  assert.deepEqual(again.warnings, [])
})

test('a store slower than wal_sender_timeout does not lose the connection, and flushed waits for it', async (t) => {
  const postgres = await startPostgres(t, { settings: { wal_sender_timeout: '600ms' } })
  const store = new MemoryLog()
  const gate = Promise.withResolvers<void>()
  const following = follow(t, postgres, store)
  await following.caughtUp()
  store.onPut = () => gate.promise
  const before = following.status().durable
  await write(postgres, 100)
  const slow = async (): Promise<{ alive: boolean; ms: number; flushed: string }> => {
    const [row] = await postgres.query<{ alive: boolean; ms: number; flushed: string }>(
      `select true as alive, extract(epoch from clock_timestamp() - backend_start)::float * 1000 as ms, flush_lsn::text as flushed from pg_stat_replication`,
    )
    return row ?? { alive: false, ms: 0, flushed: '0/0' }
  }
  let seen = await slow()
  while (seen.alive && seen.ms < 2000) seen = await slow()
  assert.ok(seen.alive)
  assert.equal(seen.flushed, before)
  gate.resolve()
  await following.caughtUp()
})

test('a server that falls silent without closing its connection is given up', async (t) => {
  const postgres = await startPostgres(t)
  const following = follow(t, postgres, new MemoryLog(), { silenceMs: 400 })
  await following.caughtUp()
  const [sender] = await postgres.query<{ pid: number }>('select pid from pg_stat_replication')
  assert.ok(sender)
  process.kill(sender.pid, 'SIGSTOP')
  try {
    await assert.rejects(following.ended, { code: 'source-unavailable', message: /said nothing for/ })
  } finally {
    process.kill(sender.pid, 'SIGCONT')
  }
})

test('the same segment with other bytes is refused and noted, and later WAL still flows', async (t) => {
  const postgres = await startPostgres(t, { walSegmentMegabytes: 1 })
  const store = new MemoryLog()
  const [row] = await postgres.query<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
  const victim = segmentName(1, BigInt(Number.parseInt(row?.name.slice(-8) ?? '', 16)) + 1n, MIB)
  const foreign = Buffer.alloc(MIB, 7)
  const following = follow(t, postgres, store)
  await following.caughtUp()
  await store.putSegment('00000001', victim, foreign, { until: new Date(0).toISOString() })
  await write(postgres, 5000)
  await following.caughtUp()
  assert.ok(store.segments.get(`00000001/${victim}`)?.bytes.equals(foreign))
  assert.ok(store.histories.has(`${victim}.conflict`))
  assert.match(following.status().needsPoint ?? '', new RegExp(victim))
  assert.equal(following.warnings.length, 1)
  assert.ok([...store.segments.keys()].some((key) => key.slice(9) > victim))
})

test('another cluster is refused before a byte is stored', async (t) => {
  const [one, other] = [await startPostgres(t), await startPostgres(t)]
  const store = new MemoryLog()
  const first = follow(t, one, store)
  await first.caughtUp()
  await first.stop()
  const held = store.tails.size + store.segments.size
  await assert.rejects(follow(t, other, store).ended, { code: 'log-conflict', message: /another cluster/ })
  assert.equal(store.tails.size + store.segments.size, held)
})

test('a slot that the server gave up is made anew, and a point is asked for', async (t) => {
  const postgres = await startPostgres(t, {
    major: 17,
    walSegmentMegabytes: 1,
    settings: { max_slot_wal_keep_size: '1MB', wal_keep_size: '0', min_wal_size: '2MB', max_wal_size: '4MB' },
  })
  const store = new MemoryLog()
  const first = follow(t, postgres, store)
  await first.caughtUp()
  await first.stop()
  for (let i = 0; i < 4; i++) {
    await write(postgres, 4000)
    await postgres.query('checkpoint')
  }
  const [slot] = await postgres.query<{ status: string }>('select wal_status as status from pg_replication_slots')
  assert.equal(slot?.status, 'lost')
  const second = follow(t, postgres, store)
  await write(postgres, 3000)
  await second.caughtUp()
  assert.match(second.warnings[0] ?? '', /gave up the replication slot/)
  assert.match(second.warnings[1] ?? '', /no longer has the WAL from/)
  assert.ok(second.status().needsPoint)
})

test('a slot in use and a logical slot are told apart', async (t) => {
  const postgres = await startPostgres(t, { settings: { wal_level: 'logical' } })
  const first = follow(t, postgres, new MemoryLog())
  await first.caughtUp()
  await assert.rejects(follow(t, postgres, new MemoryLog()).ended, {
    code: 'source-unavailable',
    message: /in use by process \d+/,
  })
  await postgres.query(`select pg_create_logical_replication_slot('theirs', 'pgoutput')`)
  await assert.rejects(follow(t, postgres, new MemoryLog(), { slot: 'theirs' }).ended, {
    code: 'source-unsuitable',
    message: /logical/,
  })
})

test('durations as SHOW prints them', () => {
  assert.deepEqual(['1min', '5s', '2500ms', '0', '2h'].map(parseDurationMs), [60_000, 5000, 2500, 0, 7_200_000])
})
