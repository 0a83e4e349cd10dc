import { randomBytes } from 'node:crypto'
import { after, before, describe } from 'node:test'
import type { Storage } from '../../src/storage/contract.ts'
import { openS3Storage } from '../../src/storage/s3.ts'
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

  async function open(bucket: string, kind: 'plain' | 'versioned' | 'locking'): Promise<Storage> {
    const config = s3.config(bucket, `${randomBytes(4).toString('hex')}/shop/`)
    const immutable = kind === 'locking' ? { immutableMs: DAY_MS } : {}
    return openS3Storage({ ...config, ...immutable }, { now: Date.now })
  }
})
