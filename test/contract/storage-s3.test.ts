import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Storage } from '../../src/storage/contract.ts'
import { withRetries } from '../../src/storage/retry.ts'
import { openS3Storage } from '../../src/storage/s3.ts'
import { startLossyProxy } from '../support/lossy-proxy.ts'
import { startRadosgw, type TestS3 } from '../support/radosgw.ts'
import { REMOTE, storageContract } from './storage.ts'

const DAY_MS = 86_400_000

describe('S3', () => {
  let s3: TestS3
  before(async () => {
    s3 = await startRadosgw()
  })
  after(() => s3?.stop())

  for (const kind of ['plain', 'versioned', 'locking'] as const) {
    let bucket: Promise<string> | undefined
    storageContract(
      `s3, ${kind} bucket`,
      async () => {
        bucket ??= s3.bucket(kind)
        return { storage: await open(await bucket, kind), dispose: async () => {} }
      },
      REMOTE,
    )
  }

  for (const kind of ['plain', 'versioned'] as const) {
    it(`sends a write once when answers are lost or the store is busy after it (${kind} bucket)`, async () => {
      const lossy = await startLossyProxy(s3.endpoint)
      const config = { ...s3.config(await s3.bucket(kind), 'shop/'), endpoint: lossy.endpoint }
      const quiet = { randomBytes, log: () => {} }
      const storage = withRetries(await openS3Storage(config, { now: Date.now }), quiet)
      try {
        for (const fault of ['lost answer', 'busy afterwards'] as const) {
          for (const write of ['put', 'create'] as const) {
            const name = `${write}/${fault.slice(0, 4)}`
            lossy.next(fault)
            assert.equal((await storage[write](name, Buffer.from(name))) ?? true, true, `${fault}: ${write}`)
            assert.equal(lossy.puts(name), 1, `${fault}: ${write}`)
            assert.equal((await storage.get(name)).toString(), name)
          }
        }
        lossy.next('busy')
        assert.equal(await storage.create('turned-down', Buffer.from('x')), true)
        assert.equal(lossy.puts('turned-down'), 2)
      } finally {
        await storage.close()
        await lossy.stop()
      }
    })
  }

  async function open(bucket: string, kind: 'plain' | 'versioned' | 'locking'): Promise<Storage> {
    const config = s3.config(bucket, `${randomBytes(4).toString('hex')}/shop/`)
    const immutable = kind === 'locking' ? { immutableMs: DAY_MS } : {}
    return openS3Storage({ ...config, ...immutable }, { now: Date.now })
  }
})
