import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../../../test/support/postgres.ts'
import { parseSegmentName } from '../log/wal.ts'
import { scanWal } from '../log/wal-records.ts'
import { partsOf } from './blocks.ts'
import { expandLz4, expandPglz } from './expand.ts'
import { WalRecords } from './records.ts'
import { transactionEnd } from './transaction-end.ts'

const MIB = 1024 * 1024

test('records that span pages and whole segments are put together; every one names the one before it', async (t) => {
  const major = 16
  const postgres = await startPostgres(t, {
    major,
    walSegmentMegabytes: 1,
    settings: { wal_keep_size: '200MB', max_wal_size: '1GB' },
  })
  // A record of 3 MiB covers segments that hold nothing but a part of it.
  await postgres.query(`select pg_logical_emit_message(false, 'x', repeat('y', 3 * 1024 * 1024))`)
  await postgres.query('create table after_it as select generate_series(1, 20000)')
  await postgres.query('select pg_switch_wal()')
  const files = await postgres.query<{ name: string; bytes: Buffer }>(
    `select name, pg_read_binary_file('pg_wal/' || name) as bytes from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$' order by name`,
  )
  const segments = files.map(({ name, bytes }) => ({
    bytes,
    start: (parseSegmentName(name, MIB)?.number ?? 0n) * BigInt(MIB),
  }))
  const records = new WalRecords()
  const ends: number[] = []
  let last: bigint | null = null
  let largest = 0
  let broken = 0
  for (const { bytes, start } of segments) {
    for (const record of records.read(bytes, start)) {
      if (last !== null && record.prev !== last) broken++
      last = record.lsn
      largest = Math.max(largest, record.bytes.length)
      const parts = partsOf(record, major)
      assert.ok(parts, `record at ${record.lsn}`)
      const end = transactionEnd(record, parts, major)
      if (end) ends.push(end.xid)
    }
  }
  assert.equal(broken, 0)
  assert.ok(largest > 3 * MIB)
  // The same that the other reader finds, which sees no record of more than two segments.
  const others = segments.flatMap(({ bytes, start }, i) => scanWal(bytes, start, segments[i + 1]?.bytes ?? null).events)
  assert.deepEqual(
    ends,
    others.flatMap((event) => (event.kind === 'transaction' ? [event.xid] : [])),
  )
})

test('bytes that are no log, no record or no image end in nothing, not in a crash', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(MIB), Buffer.alloc(MIB, 0xff), Buffer.alloc(100, 2)]) {
    assert.deepEqual([...new WalRecords().read(bytes, 0n)], [])
    assert.equal(expandLz4(bytes, 8192), null)
    assert.equal(expandPglz(bytes, 8192), null)
    const record = {
      lsn: 8n,
      prev: 0n,
      xid: 3,
      manager: 1,
      info: 0xff,
      bytes: Buffer.concat([Buffer.alloc(24), bytes]),
    }
    const parts = partsOf(record, 16)
    assert.ok(parts === null || transactionEnd(record, parts, 16) === null)
  }
})
