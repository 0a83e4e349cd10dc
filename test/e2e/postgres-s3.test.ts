import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { withRetries } from '../../src/storage/retry.ts'
import { openS3Storage } from '../../src/storage/s3.ts'
import { startPostgres } from '../support/postgres.ts'
import { protect, readRows, writeRows } from '../support/postgres-protection.ts'
import { startRadosgw } from '../support/radosgw.ts'

test('a cluster whose host is gone comes back, to the moment, from a bucket that locks', async (t) => {
  const s3 = await startRadosgw()
  try {
    const config = { ...s3.config(await s3.bucket('locking'), 'shop/'), immutableMs: 86_400_000 }
    const storage = withRetries(await openS3Storage(config, { now: Date.now }), { randomBytes, log: () => {} })
    const postgres = await startPostgres(t)
    const protection = await protect(t, () => storage)
    const following = protection.follow(postgres)
    await protection.takePoint(postgres)
    const rows = await writeRows(postgres, 1, 20)
    await following.caughtUp()
    await following.stop()
    await postgres.stop()

    const wanted = rows.find(({ n }) => n === 15)
    assert.ok(wanted)
    const { postgres: copy } = await protection.recover(postgres, { kind: 'time', time: wanted.at })
    assert.deepEqual(
      await readRows(copy),
      Array.from({ length: 15 }, (_, i) => i + 1),
    )
  } finally {
    await s3.stop()
  }
})
