import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import type { RegainError } from '../../src/errors.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { withRetries } from '../../src/storage/retry.ts'
import { openS3Storage } from '../../src/storage/s3.ts'
import { startLossyProxy } from '../support/lossy-proxy.ts'
import { LISTED_AT_ONCE, startRadosgw, type TestS3 } from '../support/radosgw.ts'
import { listed, REMOTE, rejectsWith, storageContract } from './storage.ts'

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

  /** Raw requests of a writer, so that it is at a known step while a reader that goes through a proxy is at one of its own. */
  async function beside(key: string) {
    const Bucket = await s3.bucket('versioned')
    const proxy = await startLossyProxy(s3.endpoint)
    const storage = await openS3Storage({ ...s3.config(Bucket), endpoint: proxy.endpoint }, { now: Date.now })
    const write = async (text: string, Key = key) => {
      const { VersionId } = await s3.client.send(new PutObjectCommand({ Bucket, Key, Body: Buffer.from(text) }))
      return VersionId!
    }
    const remove = (VersionId: string) => s3.client.send(new DeleteObjectCommand({ Bucket, Key: key, VersionId }))
    const close = async () => {
      await storage.close()
      await proxy.stop()
    }
    return { storage, proxy, write, remove, close }
  }

  it('says soon and in plain words why a store can not be opened', async () => {
    const silent = createServer((socket) => void socket.on('error', () => {}).unref()).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const at = (endpoint: string) => ({ ...s3.config('bucket'), endpoint })
    const attempts = [
      [openS3Storage(at('http://127.0.0.1:1'), { now: Date.now }), /ECONNREFUSED/, /Nothing answers at that address/],
      [
        openS3Storage(at(`http://127.0.0.1:${port}`), { now: Date.now }, { answerMs: 300 }),
        /has not answered for 0\.3 seconds/,
        /takes the connection and says nothing/,
      ],
    ] as const
    for (const [opening, message, hint] of attempts)
      await assert.rejects(opening, (error: RegainError) => {
        assert.equal(error.code, 'storage-unavailable')
        assert.match(error.message, message)
        assert.match(error.hint, hint)
        return true
      })
    silent.close()
  })

  it('leaves nothing over a locked object that it could not replace', async () => {
    const Bucket = await s3.bucket('locking')
    const storage = await openS3Storage({ ...s3.config(Bucket), immutableMs: DAY_MS }, { now: Date.now })
    await storage.put('object', Buffer.from('it'), { keep: true })
    for (const keep of [true, false]) {
      await rejectsWith('storage-locked', storage.put('object', Buffer.from('other'), { keep }))
      const { Versions = [] } = await s3.client.send(new ListObjectVersionsCommand({ Bucket }))
      assert.deepEqual(
        Versions.map(({ Size }) => Size),
        [2],
        `keep ${keep}`,
      )
    }
    await storage.close()
  })

  const isListing = ({ url = '' }: IncomingMessage) => /[?&]versions/.test(url)

  // Once in a while under load: the version that a listing names as the oldest is gone when it is asked for, each time.
  it('reads an object though each look at its versions is overtaken by a replacement', async () => {
    const { storage, proxy, write, remove, close } = await beside('tail')
    try {
      const versions = [await write('a0'), await write('a1')]
      proxy.whenAnswered(isListing, async () => {
        await remove(versions.shift()!)
        versions.push(await write(`a${versions.length}`))
      })
      assert.match((await storage.get('tail')).toString(), /^a\d$/)
    } finally {
      await close()
    }
  })

  it('lists the object and not what came later, though what a page ended with is gone when the next one is asked for', async () => {
    const { storage, proxy, write, remove, close } = await beside('b/object')
    try {
      const before = Array.from({ length: LISTED_AT_ONCE - 2 }, (_, i) => `a/${i}`)
      await Promise.all(before.map((name) => write('x', name)))
      await write('it')
      const last = await write('too late')
      await write('also too late')
      let pages = 0
      proxy.whenAnswered(isListing, async () => {
        if (++pages === 1) await remove(last)
      })
      const found = await listed(storage)
      assert.ok(pages > 1, 'there is more than one page')
      assert.equal(found.length, before.length + 1)
      assert.deepEqual(found.at(-1), { name: 'b/object', size: 2 })
    } finally {
      await close()
    }
  })

  it('tells the oldest of more versions than fit into a page, though what one ended with is gone', async () => {
    const { storage, proxy, write, remove, close } = await beside('object')
    try {
      await write('it')
      const late: string[] = []
      while (late.length <= LISTED_AT_ONCE) late.push(await write('too late'))
      let pages = 0
      proxy.whenAnswered(isListing, async () => {
        // The newest fill the first page: this is the one it ends with.
        if (++pages === 1) await remove(late[1]!)
      })
      assert.equal((await storage.get('object')).toString(), 'it')
      assert.ok(pages > 1, 'there is more than one page')
      assert.equal(await storage.size('object'), 2)
    } finally {
      await close()
    }
  })

  async function open(bucket: string, kind: 'plain' | 'versioned' | 'locking'): Promise<Storage> {
    const config = s3.config(bucket, `${randomBytes(4).toString('hex')}/shop/`)
    const immutable = kind === 'locking' ? { immutableMs: DAY_MS } : {}
    return openS3Storage({ ...config, ...immutable }, { now: Date.now })
  }
})
