import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { openPassphrase } from '../../src/keys/passphrase.ts'
import type { SourceLog, VerifyReport } from '../../src/repository/api.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import {
  assertRestores,
  assertSameTree,
  assertSound,
  backUp,
  chooseSeed,
  createTestRepository,
  openTestRepository,
  readTree,
  restore,
  seededNumbers,
  someBytes,
  type TestRepository,
  type TreeSpec,
  temporaryFolder,
  testAmbient,
  testKey,
  verify,
  writeTree,
} from '../support/repository.ts'

/**
 * Every object of a small repository (two points of a folder, a log with segments, tails and a history), each damaged in
 * every way there is. Verification must name it, and whoever restores gets right bytes or is told what is lost.
 */
const RANDOM_FLIPS = Number(process.env.REGAIN_SOAK_FLIPS ?? 6)
/** keys/DOMAIN-EPOCH-KEK.json, and not the list of KEKs. */
const WRAPPED_KEY = /-[0-9]+-[0-9a-f]{16}\.json$/
/** Others are restored from once, to see that a restore does not look at them. */
const READ_BY_RESTORES = /^(packs|index|ends|sessions)\//
const FIRST_SEGMENT = '000000010000000000000001'
const NEWEST_SEGMENT = '000000010000000000000002'
const META = { until: '2026-01-01T00:00:00Z' }

/** What verification says where it cannot say the object's own name. */
const NAMED_OTHERWISE: Record<string, (object: string) => string | null> = {
  // With the last one gone there is no name to give; the folder it stood in is named.
  'a wrapped key that is removed': (object) => (object.startsWith('keys/') ? 'keys/' : null),
  'the generation that is removed': (object) => (object.startsWith('generations/') ? 'generations/' : null),
  // Nothing else knows a segment's name; what is missed is that chunks of points are in no index.
  'an index segment that is removed': (object) => (object.startsWith('index/') ? 'the index' : null),
}

/** What verification cannot find, with the reason. */
const NOT_FOUND: Record<string, (object: string) => boolean> = {
  'a tail that is removed, as a matter of course once its segment is whole': (object) => object.includes('/tails/'),
  'a history: which timelines a log must have is for the source that wrote it to tell': (object) =>
    object.includes('/histories/'),
  'the newest segment, which no other follows': (object) => object === `log/db/segments/00000001/${NEWEST_SEGMENT}`,
}

interface Store {
  storage: Storage
  names(): string[]
  read(name: string): Buffer
  /** Null: removed. */
  write(name: string, bytes: Buffer | null): void
}

const STORES: Record<string, (folder: string) => Promise<Store>> = {
  memory: async () => storeInMemory(openMemoryStorage()),
  'a local directory, which threads read by themselves': async (folder) => storeOnDisk(join(folder, 'store')),
}

for (const [kind, makeStore] of Object.entries(STORES))
  describe(`damage to a repository in ${kind}`, () => {
    let folder: ReturnType<typeof temporaryFolder>
    let store: Store
    let made: TestRepository
    let log: SourceLog
    let stranger: KeyProvider
    const points = new Map<string, Map<string, string>>()
    const segments = new Map<string, Buffer>()
    const seen = new Set<string>()

    before(async () => {
      folder = temporaryFolder()
      store = await makeStore(folder.path)
      made = await createTestRepository(store.storage, folder.path, 1)
      stranger = await testKey(folder.path)
      const tree = join(folder.path, 'tree')
      writeTree(tree, {
        'small/a': 'a little text',
        'small/b': 'a little text',
        'small/c': 'more',
        'big/one': someBytes('one', 1_500_000),
        'big/shares': Buffer.concat([someBytes('one', 1_200_000), Buffer.from('and something of its own')]),
        sparse: { size: 3_000_000, data: [[1_000_000, someBytes('sparse', 5000)]] },
        zeros: Buffer.alloc(1_100_000),
        link: { link: 'small/a' },
      })
      const changes: TreeSpec[] = [{}, { 'small/c': 'changed', 'small/d': someBytes('d', 90_000) }]
      for (const change of changes) {
        writeTree(tree, change)
        const { point } = await backUp(made.repository, tree)
        points.set(point.id, readTree(tree))
      }
      log = made.repository.log('db')
      for (const [name, meta] of [
        [FIRST_SEGMENT, META],
        [NEWEST_SEGMENT, { ...META, follows: FIRST_SEGMENT }],
      ] as const) {
        segments.set(name, someBytes(name, 50_000))
        await log.putSegment('00000001', name, segments.get(name)!, meta)
      }
      segments.set('000000010000000000000003', someBytes('tail', 9000))
      await log.putTail('00000001', '000000010000000000000003', 0, someBytes('tail', 9000).subarray(0, 5000), META)
      await log.putTail('00000001', '000000010000000000000003', 5000, someBytes('tail', 9000).subarray(5000), META)
      await log.putHistory('00000002.history', Buffer.from('1\t0/3000000\tno recovery target\n'))
    })
    after(async () => {
      await made.repository.close()
      await store.storage.close()
      folder.remove()
    })

    it('is not there before it is done', () => assertSound(made.repository))

    it('of one bit is found wherever it is, and no wrong byte is restored', async (t) => {
      const seed = chooseSeed()
      t.diagnostic(`seed ${seed}`)
      const random = seededNumbers(seed)
      for (const name of store.names()) {
        const sound = store.read(name)
        const offsets = new Set([...structural(name, sound.length), ...times(RANDOM_FLIPS, () => random(sound.length))])
        for (const [i, offset] of [...offsets].entries()) {
          // The bytes are looked at by the same code wherever they come from: on disk a part of them is enough.
          if (kind !== 'memory' && i % 4 !== name.length % 4) continue
          const damaged = Buffer.from(sound)
          damaged[offset] = (damaged[offset] as number) ^ (1 << random(8))
          await withDamage(name, damaged, `${name} at ${offset} of ${sound.length}, seed ${seed}`)
        }
      }
    })

    it('to the length is found, and no wrong byte is restored', async () => {
      for (const name of store.names()) {
        const sound = store.read(name)
        for (const damaged of [
          sound.subarray(0, 0),
          sound.subarray(0, sound.length >>> 1),
          sound.subarray(0, -1),
          Buffer.concat([sound, Buffer.alloc(1)]),
        ])
          await withDamage(name, damaged, `${name} of ${damaged.length} instead of ${sound.length} bytes`)
      }
    })

    it('by removal is found, and no wrong byte is restored', async () => {
      for (const name of store.names()) await withDamage(name, null, `${name} removed`)
    })

    it('by exchange of two objects is found, and no wrong byte is restored', async () => {
      const byKind = Map.groupBy(store.names(), (name) => name.split('/')[0]!)
      for (const names of byKind.values())
        for (const [i, name] of names.entries()) {
          const other = names[(i + 1) % names.length]!
          if (other !== name) await withDamage(name, store.read(other), `${name} with the bytes of ${other}`)
        }
    })

    it('of a pack costs only the files that it holds, and they are named alike by verification and restore', async () => {
      for (const name of store.names().filter((one) => one.startsWith('packs/'))) {
        const sound = store.read(name)
        for (let offset = 96; offset < sound.length; offset += 256 * 1024 + 16) {
          const damaged = Buffer.from(sound)
          damaged[offset] = (damaged[offset] as number) ^ 1
          store.write(name, damaged)
          const report = await verify(made.repository)
          for (const [id, expected] of points) await assertNamedAlike(report, id, expected, `${name} at ${offset}`)
          store.write(name, sound)
        }
      }
    })

    it('is told from a wrong key', async () => {
      await assert.rejects(openTestRepository(store.storage, stranger), { code: 'wrong-key' })
    })

    async function withDamage(name: string, damaged: Buffer | null, about: string): Promise<void> {
      const sound = store.read(name)
      store.write(name, damaged)
      try {
        await assertFound(name, damaged === null, about)
        await assertOpensOrRefuses(about)
        if (name.startsWith('keys/')) await assertWrongKeyIsTold(damaged === null && WRAPPED_KEY.test(name), about)
        const first = !seen.has(name)
        seen.add(name)
        if (first || READ_BY_RESTORES.test(name))
          // What an index segment says is in the packs too.
          for (const [id, expected] of points)
            if (name.startsWith('index/')) await assertRestores(made.repository, id, expected)
            else await assertRestoredOrTold(id, expected, about)
        if (first || name.startsWith('log/'))
          for (const [segment, bytes] of segments) await assertLogOrTold(segment, bytes, about)
      } finally {
        store.write(name, sound)
      }
    }

    async function assertFound(name: string, removed: boolean, about: string): Promise<void> {
      const { problems } = await verify(made.repository)
      if (removed && Object.values(NOT_FOUND).some((applies) => applies(name))) return
      const named = [name, ...(removed ? Object.values(NAMED_OTHERWISE).map((other) => other(name)) : [])]
      assert.ok(
        problems.some(({ object }) => named.includes(object)),
        `${about}: not named in ${JSON.stringify(problems)}`,
      )
    }

    /** Opened anew, by someone who knows nothing of it: the same points, or a refusal. */
    async function assertOpensOrRefuses(about: string): Promise<void> {
      try {
        const opened = await openTestRepository(store.storage, made.key)
        for (const { id } of await opened.points()) assert.ok(points.has(id), about)
        await opened.close()
      } catch (error) {
        // Never as a wrong key: it is the right one.
        const codes = ['repository-damaged', 'repository-version', 'repository-not-found'] as const
        assert.ok(
          codes.some((code) => isRegainError(error, code)),
          `${about}: ${error}`,
        )
      }
    }

    /** A wrong key is one whatever is damaged, where there is a wrapped key left to compare it with. */
    async function assertWrongKeyIsTold(removed: boolean, about: string): Promise<void> {
      await assert.rejects(openTestRepository(store.storage, stranger), (error) => {
        assert.ok(isRegainError(error, removed ? 'repository-damaged' : 'wrong-key'), `${about}: ${error}`)
        return true
      })
    }

    async function assertRestoredOrTold(id: string, expected: Map<string, string>, about: string): Promise<void> {
      let restored: Awaited<ReturnType<typeof restore>>
      try {
        restored = await restore(made.repository, id)
      } catch (error) {
        const codes = ['repository-damaged', 'repository-version', 'storage-not-found', 'point-not-found'] as const
        assert.ok(
          codes.some((code) => isRegainError(error, code)),
          `${about}: ${error}`,
        )
        return
      }
      const whole = new Map(expected)
      for (const { path, reason } of restored.missed) {
        assert.equal(reason, 'damaged', about)
        assert.ok(whole.delete(path), `${about}: ${path} is told as lost twice, or never was`)
      }
      assertSameTree(restored.tree, whole)
    }

    async function assertNamedAlike(
      report: VerifyReport,
      id: string,
      expected: Map<string, string>,
      about: string,
    ): Promise<void> {
      const hurt = report.problems.flatMap(({ hurts }) => hurts.filter(({ point }) => point === id))
      const named = new Set(hurt.flatMap(({ paths }) => paths))
      try {
        const { missed } = await restore(made.repository, id)
        assert.deepEqual(new Set(missed.map(({ path }) => path)), named, about)
        assert.ok(named.size < expected.size, about)
      } catch (error) {
        if (!isRegainError(error, 'repository-damaged')) throw error
        assert.ok(named.has('(listing)') || named.has('the listing'), `${about}: ${error}`)
      }
    }

    async function assertLogOrTold(segment: string, bytes: Buffer, about: string): Promise<void> {
      try {
        const read = await log.read('00000001', segment)
        // A lost tail leaves the run that is before it, a lost segment nothing. Never other bytes.
        if (read) assert.ok(bytes.subarray(0, read.bytes.length).equals(read.bytes), about)
        if (read?.whole) assert.equal(read.bytes.length, bytes.length, about)
      } catch (error) {
        const damaged = isRegainError(error, 'repository-damaged') || isRegainError(error, 'repository-version')
        assert.ok(damaged, `${about}: ${error}`)
      }
    }
  })

describe('a damaged key object', () => {
  const storage = openMemoryStorage()
  const folder = temporaryFolder()
  const passphrase = openPassphrase(async () => 'correct horse', randomBytes)
  let made: TestRepository
  before(async () => {
    made = await createTestRepository(storage, folder.path, 1)
    await made.repository.addKey(passphrase, 'spare')
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  const KINDS: Record<string, (key: Record<string, unknown>) => string> = {
    'with another wrapped key': (key) => JSON.stringify({ ...key, wrapped: Buffer.alloc(40).toString('base64') }),
    'with the domain of another repository': (key) => JSON.stringify({ ...key, domain: '0'.repeat(32) }),
    'that is no JSON': (key) => JSON.stringify(key).slice(1),
  }
  for (const [kind, change] of Object.entries(KINDS))
    it(`${kind} is named to whom it was made for, and a warning to others`, async () => {
      for (const type of ['file', 'passphrase']) {
        const { name, sound } = keyOfType(type)
        storage.objects.set(name, Buffer.from(change(JSON.parse(sound.toString()))))
        const [hurt, other] = type === 'file' ? [made.key, passphrase] : [passphrase, made.key]
        await assert.rejects(openTestRepository(storage, hurt), (error) => {
          assert.ok(isRegainError(error, 'repository-damaged'), `${type}: ${error}`)
          assert.ok(error.message.includes(name))
          assert.match(error.hint, /copy of this repository/)
          return true
        })
        const ambient = testAmbient()
        await (await openTestRepository(storage, other, { ambient })).close()
        assert.ok(
          ambient.lines.some(({ level, message }) => level === 'warning' && message.includes(name)),
          JSON.stringify(ambient.lines),
        )
        storage.objects.set(name, sound)
      }
    })

  it('that asks a passphrase for too much work does not keep another from opening', async () => {
    const { name, sound } = keyOfType('passphrase')
    const asking = JSON.parse(sound.toString())
    asking.argon2id.memoryKiB = 2 ** 40
    storage.objects.set(name, Buffer.from(JSON.stringify(asking)))
    const ambient = testAmbient()
    const keys = [passphrase, made.key]
    await (await openRepository({ storage, keys, ambient, workers: 1 })).close()
    await assert.rejects(openTestRepository(storage, passphrase), { code: 'repository-damaged' })
    storage.objects.set(name, sound)
  })

  it('is none where all are as they were written', async () => {
    const ambient = testAmbient()
    await (await openTestRepository(storage, made.key, { ambient })).close()
    assert.deepEqual(ambient.lines, [])
  })

  function keyOfType(type: string): { name: string; sound: Buffer } {
    for (const [name, sound] of storage.objects)
      if (name.startsWith('keys/') && JSON.parse(sound.toString()).type === type) return { name, sound }
    throw new Error(`no key of type ${type}`)
  }
})

/** Where the format has a field, or an end (docs/format.md). Text is taken here and there, JSON all over. */
function structural(name: string, length: number): number[] {
  const clear = !name.includes('/') || name.startsWith('keys/')
  // A field's name that is another may mean that the field is missing.
  if (name.endsWith('.json')) return times(Math.ceil(length / 5), (i) => i * 5)
  if (clear) return times(24, (i) => Math.floor((i * length) / 24)).concat(length - 1)
  const header = [0, 5, 6, 7, 8, 23, 24, 27, 28, 31, 32, 63, 64, 95]
  return [...header, 96, 96 + 15, length - 17, length - 16, length - 1].filter((offset) => offset < length)
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}

function storeInMemory(storage: MemoryStorage): Store {
  return {
    storage,
    names: () => [...storage.objects.keys()].sort(),
    read: (name) => storage.objects.get(name)!,
    write: (name, bytes) => void (bytes ? storage.objects.set(name, Buffer.from(bytes)) : storage.objects.delete(name)),
  }
}

async function storeOnDisk(directory: string): Promise<Store> {
  const names = () =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
      // Room set aside is no object: nothing is read of it.
      .filter((name) => name !== '+reserve')
      .sort()
  const write = (name: string, bytes: Buffer | null) => {
    const path = join(directory, name)
    if (bytes === null) return rmSync(path)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes)
  }
  return {
    storage: await createLocalStorage(directory),
    names,
    read: (name) => readFileSync(join(directory, name)),
    write,
  }
}
