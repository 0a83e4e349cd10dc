import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../../../test/support/postgres.ts'
import { parseLsn } from '../protocol/lsn.ts'
import { parseSegmentName } from './wal.ts'
import { scanWal, type WalEvent } from './wal-records.ts'

const MIB = 1024 * 1024

for (const major of [13, 15, 18]) {
  test(`version ${major}: every transaction and restore point is found where the server put it, also across pages and segments`, async (t) => {
    const postgres = await startPostgres(t, {
      major,
      walSegmentMegabytes: 1,
      settings: { wal_keep_size: '100MB', max_wal_size: '1GB' },
    })
    const client = await postgres.connect()
    await client.query('create table events (n int, text text)')
    await client.query('select pg_switch_wal()')
    const [begin] = await postgres.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
    const written: { xid: number; before: number; after: number }[] = []
    for (let n = 0; n < 1200; n++) {
      const { rows } = await client.query<{ xid: string; before: string; after: string }>(
        `with row as (insert into events values ($1, repeat('x', $1 * 7 % 3000)) returning xmin::text as xid)
         select xid, extract(epoch from transaction_timestamp())::text as before, '' as after from row`,
        [n],
      )
      const after = await client.query<{ after: string }>(`select extract(epoch from clock_timestamp())::text as after`)
      written.push({
        xid: Number(rows[0]?.xid),
        before: Number(rows[0]?.before) * 1000,
        after: Number(after.rows[0]?.after) * 1000,
      })
      if (n === 600) await client.query(`select pg_create_restore_point('half way, ünïcode')`)
    }
    await client.query('begin')
    const aborted = await client.query<{ xid: string }>('insert into events values (0) returning xmin::text as xid')
    await client.query('rollback')
    await client.query('select pg_switch_wal()')

    const files = await postgres.query<{ name: string; bytes: Buffer }>(
      `select name, pg_read_binary_file('pg_wal/' || name) as bytes from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$' order by name`,
    )
    const first = parseLsn(begin?.lsn ?? '') / BigInt(MIB)
    const segments = files
      .map(({ name, bytes }) => ({ number: parseSegmentName(name, MIB)?.number ?? 0n, bytes }))
      .filter(({ number }) => number >= first)
    const events: WalEvent[] = segments.flatMap(
      ({ number, bytes }, i) => scanWal(bytes, number * BigInt(MIB), segments[i + 1]?.bytes ?? null).events,
    )
    const ends = new Map(
      events.filter((event) => event.kind === 'transaction').map((event) => [event.xid, event.timeMs]),
    )
    assert.ok(segments.length > 3)
    for (const { xid, before, after } of written) {
      const timeMs = ends.get(xid)
      assert.ok(timeMs !== undefined && timeMs >= before - 1 && timeMs <= after + 1, `transaction ${xid} at ${timeMs}`)
    }
    assert.ok(ends.has(Number(aborted.rows[0]?.xid)))
    assert.deepEqual(
      events.filter((event) => event.kind === 'restore-point').map(({ name }) => name),
      ['half way, ünïcode'],
    )
    const order = events.map(({ lsn }) => lsn)
    assert.deepEqual(
      order,
      order.toSorted((a, b) => (a < b ? -1 : 1)),
    )
  })
}

test('bytes that are no WAL end the scan instead of breaking it', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(MIB), Buffer.alloc(MIB, 0xff), Buffer.alloc(100, 2)]) {
    assert.deepEqual(scanWal(bytes, 0n, null), {
      events: [],
      lastRecord: null,
      usedBytes: 0,
      mayEndInTablespace: false,
    })
  }
})
