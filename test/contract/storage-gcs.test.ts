import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { openGcsStorage } from '../../src/storage/gcs.ts'
import { type GcsStandIn, startGcsStandIn } from '../support/gcs-stand-in.ts'
import { listed, rejectsWith, storageContract } from './storage.ts'

const DAY_MS = 86_400_000
const ambient = { now: Date.now, randomBytes }

describe('Google Cloud Storage, against a stand-in for it', () => {
  let gcs: GcsStandIn
  before(async () => {
    gcs = await startGcsStandIn()
    gcs.bucket('plain')
    gcs.bucket('locking', { retention: true })
  })
  after(() => gcs.stop())

  const open = (bucket: string, options: { immutableMs?: number; credentials?: string } = {}) => {
    const { endpoint, credentials } = gcs
    const prefix = `${randomBytes(4).toString('hex')}/shop/`
    return openGcsStorage({ bucket, prefix, endpoint, credentials, ...options }, ambient)
  }

  for (const [bucket, options] of [
    ['plain', {}],
    ['locking', { immutableMs: DAY_MS }],
  ] as const) {
    storageContract(`gcs, ${bucket} bucket`, async () => ({
      storage: await open(bucket, options),
      dispose: async () => {},
    }))
  }

  it('locks what is kept, and nothing else', async () => {
    const storage = await open('locking', { immutableMs: DAY_MS })
    await storage.put('packs/1', Buffer.from('first'), { keep: true })
    assert.equal(await storage.create('points/1', Buffer.from('first'), { keep: true }), true)
    for (const name of ['packs/1', 'points/1']) {
      assert.equal(await storage.immutability!.isExtended(name), true)
      await rejectsWith('storage-locked', storage.delete(name))
      await rejectsWith('storage-locked', storage.put(name, Buffer.from('second')))
      assert.equal(await storage.create(name, Buffer.from('second')), false)
      assert.equal((await storage.get(name)).toString(), 'first')
    }
    await storage.put('sessions/1', Buffer.from('first'))
    assert.equal(await storage.immutability!.isExtended('sessions/1'), false)
    await storage.immutability!.extend('sessions/1')
    assert.equal(await storage.immutability!.isExtended('sessions/1'), true)
    await rejectsWith('storage-locked', storage.delete('sessions/1'))
    await rejectsWith('storage-not-found', storage.immutability!.extend('packs/2'))
    assert.equal(await storage.immutability!.isExtended('packs/2'), false)
    assert.equal((await listed(storage)).length, 3)
    await storage.close()
  })

  it('refuses a bucket that cannot keep the promise', async () => {
    gcs.bucket('versions', { retention: true, versioning: true })
    await rejectsWith('storage-unsuitable', open('plain', { immutableMs: DAY_MS }))
    await rejectsWith('storage-unsuitable', open('versions', { immutableMs: DAY_MS }))
    await rejectsWith('storage-not-found', open('none'))
  })

  it('tells a bucket that is gone from an object that is not there', async () => {
    gcs.bucket('passing')
    const storage = await open('passing')
    assert.equal(await storage.size('a'), null)
    gcs.removeBucket('passing')
    await rejectsWith('storage-unavailable', storage.size('a'))
    await rejectsWith('storage-unavailable', storage.get('a'))
    await rejectsWith('storage-unavailable', storage.delete('a'))
    await rejectsWith('storage-unavailable', listed(storage))
    await storage.close()
  })

  it('sends nothing in clear text, and needs credentials that work', async () => {
    const place = { bucket: 'plain', prefix: '', credentials: gcs.credentials }
    await rejectsWith('config-invalid', openGcsStorage({ ...place, endpoint: 'http://192.0.2.1' }, ambient))
    await rejectsWith('storage-denied', open('plain', { credentials: '/nowhere/credentials.json' }))
  })
})
