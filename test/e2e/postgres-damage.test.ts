import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { RegainError } from '../../src/errors.ts'
import { type Fault, withFaults } from '../../src/storage/fault.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'

/** What goes wrong at either end while a cluster is backed up: at its disk, or at the store. */

const BLOCK_BYTES = 8192

/** As a disk does it: behind the server's back, while it is down. */
async function flipBit(postgres: TestPostgres, path: string, block: number): Promise<void> {
  const handle = await open(join(postgres.directory, path), 'r+')
  try {
    const byte = Buffer.alloc(1)
    const position = block * BLOCK_BYTES + 5000
    await handle.read(byte, 0, 1, position)
    byte[0] = (byte[0] ?? 0) ^ 0x10
    await handle.write(byte, 0, 1, position)
  } finally {
    await handle.close()
  }
}

for (const major of [14, 18])
  test(`version ${major}: a bit flipped at the source is told by relation and block, until it is mended`, async (t) => {
    const settings = { autovacuum: 'off', ...(major >= 17 ? { summarize_wal: 'on' } : {}) }
    const postgres = await startPostgres(t, { major, dataChecksums: true, settings })
    const protection = await protect(t)
    await postgres.query(
      `create table "Orders" as select n as id, repeat(md5(n::text), 20) as text from generate_series(1, 500) n`,
    )
    await postgres.query('create index orders_id on "Orders" (id)')
    const [path] = await postgres.query<{ heap: string; index: string; sum: string }>(
      `select pg_relation_filepath('"Orders"') as heap, pg_relation_filepath('orders_id') as index, (select md5(string_agg(text, ',' order by id)) from "Orders") as sum`,
    )
    const sound = await protection.takePoint(postgres)
    assert.ok(sound.complete && path)
    await postgres.stop()
    await flipBit(postgres, path.heap, 3)
    await flipBit(postgres, path.index, 1)
    await postgres.start()

    if (major >= 17) {
      // The server sends what changed, and these pages did not: the point has them as they were before.
      const kept = await protection.takePoint(postgres, 'incremental')
      assert.deepEqual([kept.kind, kept.complete], ['incremental', true])
      const { postgres: copy } = await protection.recover(postgres, { kind: 'point', id: kept.id })
      const [row] = await copy.query<{ sum: string }>(
        `select md5(string_agg(text, ',' order by id)) as sum from "Orders"`,
      )
      assert.equal(row?.sum, path.sum)
    }
    const hurt = await protection.takePoint(postgres)
    assert.equal(hurt.complete, false)
    assert.deepEqual(
      hurt.missed.map(({ path: where, reason }) => [where, reason]).sort(),
      [
        [path.heap, 'damaged'],
        [path.index, 'damaged'],
      ].sort(),
    )
    const said = hurt.missed.map(({ detail }) => detail).join('\n')
    assert.match(said, /finds block 3 of the relation public\."Orders" in the database postgres damaged/)
    assert.match(
      said,
      /finds block 1 of the index public\.orders_id of "Orders" \(REINDEX mends it\) in the database postgres damaged/,
    )

    // What the last point has only damaged is asked for whole each time.
    const again = await protection.takePoint(postgres, 'incremental')
    assert.deepEqual([again.complete, again.missed.length], [false, 2])
    await postgres.query('drop table "Orders"')
    const mended = await protection.takePoint(postgres, 'incremental')
    assert.deepEqual([mended.complete, mended.missed], [true, []])
  })

test('a store that is full or away in mid-backup: the server is unharmed and free, and the next backup works', async (t) => {
  const postgres = await startPostgres(t, { major: 17, settings: { summarize_wal: 'on' } })
  let fault: Fault | null = null
  let packs = 0
  const protection = await protect(t, (storage) =>
    withFaults(storage, ({ operation, name }) =>
      // Not from the start: some of the backup is stored already.
      operation !== 'get' && name.startsWith('packs/') && ++packs > 1 ? fault : null,
    ),
  )
  await protection.takePoint(postgres)
  await postgres.query(
    'create table large as select n, md5(random()::text) || md5(random()::text) as noise from generate_series(1, 700000) n',
  )
  for (const code of ['storage-full', 'storage-unavailable'] as const) {
    fault = { kind: 'reject-before', error: new RegainError(code, 'This store fails.') }
    packs = 0
    const writing = writeRows(postgres, 1, 10)
    await assert.rejects(protection.takePoint(postgres), { code })
    assert.ok(packs > 1)
    await writing
    await postgres.query('truncate events')
    await untilFree(postgres)
    const [slots] = await postgres.query<{ n: string }>('select count(*) as n from pg_replication_slots')
    assert.equal(slots?.n, '0')
    assert.equal((await protection.repository.points()).length, 1)
  }
  fault = null
  await writeRows(postgres, 1, 20)
  const next = await protection.takePoint(postgres, 'incremental')
  assert.deepEqual([next.kind, next.complete], ['incremental', true])
  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  assert.equal((await readRows(copy)).length, 20)
})

test('another cluster under the same source is refused, and nothing of it is stored', async (t) => {
  const postgres = await startPostgres(t, { major: 16 })
  const other = await startPostgres(t, { major: 16 })
  const protection = await protect(t)
  const point = await protection.takePoint(postgres)
  const objects = async () => (await Array.fromAsync(protection.storage.list('packs/'))).length
  const before = await objects()
  await assert.rejects(protection.takePoint(other), { code: 'log-conflict', message: /another cluster/ })
  assert.equal(await objects(), before)
  assert.deepEqual(
    (await protection.repository.points()).map(({ id }) => id),
    [point.id],
  )
})

/** Nobody is sent anything any more: the server ends its backups with their connections. */
async function untilFree(postgres: TestPostgres): Promise<void> {
  for (;;) {
    const [row] = await postgres.query<{ n: string }>(
      `select count(*) as n from pg_stat_activity where backend_type = 'walsender'`,
    )
    if (row?.n === '0') return
  }
}
