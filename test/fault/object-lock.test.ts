import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, describe, it, mock } from 'node:test'
import {
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  type ObjectVersion,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import type { Point } from '../../src/model.ts'
import type { PrunePlan, Repository } from '../../src/repository/api.ts'
import { createRepository, openRepository } from '../../src/repository/repository.ts'
import { clockSkew } from '../../src/storage/check-storage.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { listed } from '../../src/storage/guarantees.ts'
import { withRetries } from '../../src/storage/retry.ts'
import { openS3Storage } from '../../src/storage/s3.ts'
import { startRadosgw, type TestS3WithClock } from '../support/radosgw.ts'
import {
  age,
  assertRestores,
  backUp,
  readTree,
  someBytes,
  temporaryFolder,
  testKey,
  uninterrupted,
  verify,
  writeTree,
} from '../support/repository.ts'

const DAY_MS = 86_400_000
const PERIOD_MS = 30 * DAY_MS
const options = { signal: uninterrupted(), progress: () => undefined }

/** A real bucket with Object Lock, whose server's clock the test sets on, over months. */
describe('a repository in a bucket with Object Lock', () => {
  let s3: TestS3WithClock
  let folder: ReturnType<typeof temporaryFolder>
  before(async () => {
    s3 = await startRadosgw({ clock: true })
    folder = temporaryFolder()
  })
  after(async () => {
    mock.timers.reset()
    folder?.remove()
    await s3?.stop()
  })

  /** Ours and the server's: requests are signed with a time. */
  async function itIs(date: string): Promise<void> {
    const nowMs = Date.parse(date)
    await s3.setClock(nowMs)
    mock.timers.reset()
    mock.timers.enable({ apis: ['Date'], now: nowMs })
  }

  async function place() {
    const bucket = await s3.bucket('locking')
    const key = await testKey(folder.path)
    const data = temporaryFolder()
    let looks = 0
    const warnings: string[] = []
    const ambient = {
      now: () => Date.now() + ++looks,
      randomBytes,
      log: (level: string, message: string) => void (level === 'warning' && warnings.push(message)),
    }
    const storages: Storage[] = []
    const repositories: Repository[] = []
    const storage = async (isImmutable = true) => {
      const immutable = isImmutable ? { immutableMs: PERIOD_MS } : {}
      storages.push(withRetries(await openS3Storage({ ...s3.config(bucket), ...immutable }, ambient), ambient))
      return storages.at(-1)!
    }
    const common = { keys: [key], ambient, workers: 1 }
    const trees = new Map<string, Map<string, string>>()
    return {
      ...{ bucket, key, trees, warnings, storage },
      create: async () => {
        repositories.push(await createRepository({ ...common, storage: await storage(), service: 'shop' }))
        return repositories.at(-1)!
      },
      open: async (isImmutable = true) => {
        repositories.push(await openRepository({ ...common, storage: await storage(isImmutable) }))
        return repositories.at(-1)!
      },
      /** Of `shared`, which all points have, and bytes of its own. */
      backUp: async (repository: Repository, seed: string, unneeded: Point[] = []): Promise<Point> => {
        writeTree(data.path, { shared: someBytes('shared', 300_000), own: someBytes(seed, 200_000) })
        age(data.path)
        const policy = async () => ({ points: unneeded.map(({ id }) => id), log: [] })
        const { point } = await backUp(repository, data.path, { unneeded: policy })
        trees.set(point.id, readTree(data.path))
        return point
      },
      async allRestore(repository: Repository) {
        const points = await repository.points()
        for (const { id } of points) await assertRestores(repository, id, trees.get(id)!)
        return points.length
      },
      close: async () => {
        for (const one of repositories) await one.close()
        for (const one of storages) await one.close()
        data.remove()
      },
    }
  }

  const expire = async (repository: Repository, points: Point[]) => {
    const weighed = (await repository.points()).map(({ id }) => id)
    const doomed = points.map(({ id }) => ({ id, reason: 'test' }))
    return repository.prune(await repository.planPrune({ expire: doomed, trimLog: [], weighed, ...options }), options)
  }

  /** Every version that the store lets go, with its own credentials. */
  async function removeAllVersions(Bucket: string): Promise<number> {
    let refused = 0
    const found: ObjectVersion[] = []
    let from: { KeyMarker?: string; VersionIdMarker?: string } | null = {}
    while (from) {
      const page: ListObjectVersionsCommandOutput = await s3.client.send(
        new ListObjectVersionsCommand({ Bucket, ...from }),
      )
      found.push(...(page.Versions ?? []))
      from = page.IsTruncated ? { KeyMarker: page.NextKeyMarker!, VersionIdMarker: page.NextVersionIdMarker! } : null
    }
    for (const { Key, VersionId } of found)
      await s3.client.send(new DeleteObjectCommand({ Bucket, Key, VersionId })).catch(() => refused++)
    return refused
  }

  it('is told how far this clock is from the store, also where that turns down what it signs', async () => {
    const bucket = await s3.bucket('locking')
    const hoursAhead = async (hours: number) => {
      const nowMs = Date.UTC(2030, 0, 10)
      await s3.setClock(nowMs - hours * 3_600_000)
      mock.timers.reset()
      mock.timers.enable({ apis: ['Date'], now: nowMs })
      return openS3Storage(s3.config(bucket), { now: Date.now })
    }
    for (const [hours, expected] of [
      [0, null],
      [0.15, /^This machine's clock is 9 minutes ahead of that of s3/],
      [-0.15, /^This machine's clock is 9 minutes behind that of s3/],
    ] as const) {
      const storage = await hoursAhead(hours)
      const told = await clockSkew(storage, { now: Date.now })
      if (expected === null) assert.equal(told, null)
      else assert.match(told ?? '', expected)
      await storage.close()
    }
    await assert.rejects(hoursAhead(48), {
      code: 'storage-denied',
      message: /clock is 48\.0 hours ahead of the store's/,
    })
    await assert.rejects(hoursAhead(-48), {
      code: 'storage-denied',
      message: /clock is 48\.0 hours behind the store's/,
    })
  })

  it('locks for longer what is kept, each month, and not what is not: that goes, the other outlives an attack', async () => {
    await itIs('2030-01-10T00:00:00Z')
    const shop = await place()
    try {
      const repository = await shop.create()
      const unneeded = [await shop.backUp(repository, '1'), await shop.backUp(repository, '2')]
      await shop.backUp(repository, '3')
      await itIs('2030-02-27T00:00:00Z')
      const early = await expire(repository, unneeded)
      assert.deepEqual(early.expired, [])
      assert.equal(early.packs.removed, 0)
      assert.deepEqual(early.waits, [
        '2 recovery points are locked until 2030-03-03: the first prune after that removes what the policy does not keep.',
        // Written anew, because little of it would be needed.
        'A pack of data is locked until 2030-03-03: removed by the first prune after that.',
      ])
      assert.deepEqual(shop.warnings, [])
      await shop.backUp(repository, '4', unneeded)
      // The locks of January have ended, those of February not.
      await itIs('2030-03-28T00:00:00Z')
      const { expired, packs } = await expire(repository, unneeded)
      assert.deepEqual(expired.sort(), unneeded.map(({ id }) => id).sort())
      assert.ok(packs.removed > 0)
      assert.ok((await removeAllVersions(shop.bucket)) > 10)
      assert.equal(await shop.allRestore(await shop.open()), 2)
    } finally {
      await shop.close()
    }
  })

  it('restores all after a thief put what is gone, cut, old or foreign under every name, locked for ever', async () => {
    await itIs('2030-01-10T00:00:00Z')
    const shop = await place()
    const Bucket = shop.bucket
    const put = (Key: string, Body: Buffer) =>
      s3.client.send(
        new PutObjectCommand({
          ...{ Bucket, Key, Body, ContentMD5: createHash('md5').update(Body).digest('base64') },
          ...{ ObjectLockMode: 'COMPLIANCE', ObjectLockRetainUntilDate: new Date(Date.now() + 3650 * DAY_MS) },
        }),
      )
    try {
      const repository = await shop.create()
      const first = await shop.backUp(repository, '1')
      const early = new Map<string, Buffer>()
      const storage = await shop.storage()
      for (const { name } of await listed(storage, '')) early.set(name, await storage.get(name))
      const second = await shop.backUp(repository, '2')
      const all = (await listed(storage, '')).map(({ name }) => name)
      const bytes = new Map<string, Buffer>()
      for (const name of all) bytes.set(name, await storage.get(name))
      await removeAllVersions(Bucket)
      for (const [i, name] of all.entries()) {
        const now = bytes.get(name)!
        // Old where there is an old one, cut, or nothing of it at all; over what is locked too.
        await put(name, [early.get(name) ?? now.subarray(1), now.subarray(0, now.length >> 1), Buffer.alloc(0)][i % 3]!)
      }
      const domain = [...early.keys()].find((name) => name.startsWith('keys/'))!.slice(5, 37)
      const foreign = [`keys/${domain}-2.json`, 'generations/abc', `holds/${first.id}`, `expired/${second.id}`]
      for (const name of [...foreign, `pins/${domain}`, `sessions/${domain}`, `ends/${domain}`, 'packs/x', 'y'])
        await put(name, Buffer.from('encrypted: pay us'))

      const opened = await shop.open()
      assert.equal(await shop.allRestore(opened), 2)
      assert.ok(
        shop.warnings.some((line) => line.includes(`keys/${domain}-2.json says that a new key epoch has begun`)),
      )
      const told = (await verify(opened)).problems
      for (const name of [...foreign.slice(0, 2), `expired/${second.id}`, `ends/${domain}`])
        assert.ok(
          told.some(({ object }) => object === name),
          `${name} is told`,
        )
      assert.deepEqual(
        told.flatMap(({ hurts }) => hurts),
        [],
      )
      // Nobody can tell that the epoch was never begun, so nothing is written or removed in one before it.
      await assert.rejects(shop.backUp(opened, '3'))
      await assert.rejects(opened.prune({} as PrunePlan, options), { code: 'key-replaced' })
    } finally {
      await shop.close()
    }
  })

  it('holds a point against a prune after its locks have ended, and destroys keys only then', async () => {
    await itIs('2030-01-10T00:00:00Z')
    const shop = await place()
    try {
      const repository = await shop.create()
      const point = await shop.backUp(repository, '1')
      await shop.backUp(repository, '2')
      await repository.hold(point.id, 'trial')
      assert.ok((await repository.lockedKeys()).length > 0)
      await assert.rejects(repository.destroyKeys(), { code: 'storage-locked' })

      await itIs('2030-03-04T00:00:00Z')
      assert.deepEqual((await expire(repository, [point])).expired, [])
      assert.equal(await repository.release(point.id), true)
      assert.deepEqual((await expire(repository, [point])).expired, [point.id])
      assert.deepEqual(await repository.lockedKeys(), [])
      assert.ok((await repository.destroyKeys()).length > 0)
      await assert.rejects(shop.open())
    } finally {
      await shop.close()
    }
  })

  it('replaces the data key once the locks have ended: says what waits and for how long, and what ends that', async () => {
    await itIs('2030-01-10T00:00:00Z')
    const shop = await place()
    try {
      const repository = await shop.create()
      await shop.backUp(repository, '1')
      await repository.log('files').putHistory('system', Buffer.from('1\n'))
      await repository.beginRekey([{ provider: shop.key, label: 'main' }])

      await itIs('2030-02-20T00:00:00Z')
      const renewed = await shop.open()
      await shop.backUp(renewed, '2')
      // Twice: what was tried leaves nothing that is locked in its turn.
      for (let i = 0; i < 2; i++) {
        const { done, waits } = await renewed.rekey(options)
        assert.equal(done, false)
        const told = waits.join('\n')
        assert.match(told, /^4 objects, repository.json among them, are locked until 2030-03-31\. .*Take immutable out/)
        assert.match(told, /\n2 packs of data are locked until 2030-03-31/)
      }
      assert.equal(await shop.allRestore(renewed), 2)

      const open = await shop.open(false)
      await itIs('2030-04-01T01:00:00Z')
      const { done, waits } = await open.rekey(options)
      assert.deepEqual(waits, [])
      assert.equal(done, true)
      await shop.backUp(await shop.open(), '3')
      const after = await shop.open()
      assert.deepEqual(after.keyEpoch, { current: 2, oldest: 2 })
      assert.equal(await shop.allRestore(after), 3)
      assert.ok((await removeAllVersions(shop.bucket)) > 10)
      assert.equal(await shop.allRestore(await shop.open()), 3)
    } finally {
      await shop.close()
    }
  })
})
