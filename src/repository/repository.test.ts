import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  hand,
  openTestRepository,
  readTree,
  SOURCE,
  someBytes,
  startRequest,
  temporaryFolder,
  testAmbient,
  testKey,
  uninterrupted,
  verify,
  writeTree,
} from '../../test/support/repository.ts'
import { RegainError } from '../errors.ts'
import type { Storage } from '../storage/contract.ts'
import { type FaultScript, withFaults } from '../storage/fault.ts'
import { createLocalStorage } from '../storage/local.ts'
import { type MemoryStorage, openMemoryStorage } from '../storage/memory.ts'
import type { Repository } from './api.ts'
import { PREFIX, REPOSITORY } from './format/object-names.ts'
import { createRepository, openRepository } from './repository.ts'

describe('a repository', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let memory: MemoryStorage
  let script: FaultScript
  let storage: Storage
  const open: Repository[] = []

  beforeEach(() => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    writeTree(tree, { a: 'text', b: someBytes('b', 3_000_000) })
    memory = openMemoryStorage()
    script = () => null
    storage = withFaults(memory, (call) => script(call))
  })
  afterEach(async () => {
    for (const repository of open.splice(0)) await repository.close()
    folder.remove()
  })

  const opened = <R extends Repository>(repository: R): R => {
    open.push(repository)
    return repository
  }

  it('is not where there is none, and is not made where there is one', async () => {
    const key = await testKey(folder.path)
    await assert.rejects(openTestRepository(storage, key), { code: 'repository-not-found' })
    const made = await createTestRepository(storage, folder.path)
    opened(made.repository)
    const before = new Map(memory.objects)
    await assert.rejects(createTestRepository(storage, folder.path), { code: 'repository-exists' })
    assert.deepEqual(new Map(memory.objects), before)
  })

  it('is not made anew over one that lost its repository.json', async () => {
    const { repository, key } = await createTestRepository(storage, folder.path)
    opened(repository)
    await backUp(repository, tree)
    const record = memory.objects.get(REPOSITORY)!
    memory.objects.delete(REPOSITORY)
    const before = new Map(memory.objects)
    await assert.rejects(createTestRepository(storage, folder.path), { code: 'repository-damaged' })
    await assert.rejects(openTestRepository(storage, key), { code: 'repository-damaged' })
    assert.deepEqual(new Map(memory.objects), before)
    memory.objects.set(REPOSITORY, record)
    opened(await openTestRepository(storage, key))
  })

  it('opens with any of its keys, and with no other', async () => {
    const { repository, key } = await createTestRepository(storage, folder.path)
    opened(repository)
    const second = await testKey(folder.path)
    const stranger = await testKey(folder.path)
    await assert.rejects(openTestRepository(storage, second), { code: 'wrong-key' })
    await repository.addKey(second, 'spare')
    for (const one of [key, second]) opened(await openTestRepository(storage, one))
    await assert.rejects(openTestRepository(storage, stranger), { code: 'wrong-key' })
    const all = await openRepository({ storage, keys: [stranger, second], ambient: testAmbient(), workers: 1 })
    assert.deepEqual((await opened(all).keys()).map(({ label }) => label).sort(), ['first', 'spare'])
    await assertSound(repository)
  })

  it('tells a store that is away, or refuses, from a repository that is damaged', async () => {
    const { repository, key } = await createTestRepository(storage, folder.path)
    opened(repository)
    for (const code of ['storage-unavailable', 'storage-denied'] as const)
      for (const prefix of [REPOSITORY, PREFIX.keys]) {
        script = (call) =>
          call.operation === 'get' && call.name.startsWith(prefix)
            ? { kind: 'reject-before', error: new RegainError(code, 'Away.') }
            : null
        await assert.rejects(openTestRepository(storage, key), { code })
      }
    script = () => null
    for (const name of [...memory.objects.keys()]) if (name.startsWith(PREFIX.keys)) memory.objects.delete(name)
    await assert.rejects(openTestRepository(storage, key), { code: 'repository-damaged' })
  })

  it('is of the one who won when two make it at once, and works', async () => {
    const keys = [await testKey(folder.path), await testKey(folder.path)]
    const make = (key: (typeof keys)[number]) =>
      createRepository({ storage, keys: [key], ambient: testAmbient(), workers: 1, service: 'shop' })
    const outcomes = await Promise.allSettled(keys.map(make))
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    assert.equal(won.length, 1)
    const repository = opened(won[0]!.value)
    const lost = outcomes.find((outcome) => outcome.status === 'rejected')!
    assert.equal((lost.reason as RegainError).code, 'repository-exists')
    const { point } = await backUp(repository, tree)
    await assertRestores(repository, point.id, readTree(tree))
    await assertSound(repository)
    const reopened = opened(await openTestRepository(storage, keys[outcomes.indexOf(won[0]!)]!))
    assert.equal((await reopened.points()).length, 1)
    assert.equal((await reopened.keys()).length, 1)
  })

  it('is made by the next who tries where the first one died on the way', async () => {
    const key = await testKey(folder.path)
    const make = () => createRepository({ storage, keys: [key], ambient: testAmbient(), workers: 1, service: 'shop' })
    let calls = 0
    script = () => {
      calls++
      return null
    }
    opened(await make())
    for (let k = 1, count = calls; k <= count; k++) {
      memory.objects.clear()
      let now = 0
      script = () => (++now >= k ? { kind: 'reject-before' } : null)
      await assert.rejects(make(), { code: 'storage-unavailable' })
      script = () => null
      const exists = memory.objects.has(REPOSITORY)
      const repository = exists ? await openTestRepository(storage, key, { workers: 1 }) : await make()
      await backUp(repository, tree)
      await assertSound(repository)
      await repository.close()
    }
  })

  it('can be verified while a backup commits: what is new is no damage', async () => {
    const { repository } = await createTestRepository(storage, folder.path, 1)
    opened(repository)
    await backUp(repository, tree)
    const before = new Map(memory.objects)
    let at = 0
    let verifying = false
    // Before each call of the verification in turn, a whole backup comes in between.
    for (let k = 1, calls = k; k <= calls; k++) {
      memory.objects.clear()
      for (const [name, bytes] of before) memory.objects.set(name, bytes)
      at = 0
      verifying = true
      script = () => {
        if (!verifying || ++at !== k) return null
        return {
          kind: 'call',
          when: 'before',
          run: async () => {
            verifying = false
            writeTree(tree, { a: `text ${k}` })
            await backUp(repository, tree, { source: k % 2 ? 'other' : SOURCE })
            verifying = true
          },
        }
      }
      const { problems } = await verify(repository)
      assert.deepEqual(problems, [], `before call ${k}`)
      calls = at
    }
  })

  it('reads a point from another copy when the pack it is in was replaced after the index was read', async () => {
    const { repository, key } = await createTestRepository(storage, folder.path, 1)
    opened(repository)
    const { point } = await backUp(repository, tree)
    const packs = [...memory.objects].filter(([name]) => name.startsWith(PREFIX.packs))
    const index = [...memory.objects].filter(([name]) => name.startsWith(PREFIX.index))
    // A repack by hand: a full backup by one who does not know the old copies writes the same chunks to new packs.
    for (const [name] of [...packs, ...index]) memory.objects.delete(name)
    await backUp(repository, tree, { source: 'copy' })
    const copies = new Map(memory.objects)
    for (const localDirectory of [true, false]) {
      memory.objects.clear()
      for (const [name, bytes] of copies)
        if (!name.startsWith(PREFIX.packs) && !name.startsWith(PREFIX.index)) memory.objects.set(name, bytes)
      for (const [name, bytes] of [...packs, ...index]) memory.objects.set(name, bytes)
      const store = localDirectory ? await copyToDisk(memory, join(folder.path, 'store')) : memory
      const reading = opened(await openTestRepository(store, key, { workers: 1 }))
      const reader = await reading.openPoint(point.id, { signal: uninterrupted() })
      for (const [name, bytes] of copies) await store.put(name, bytes)
      for (const [name] of [...packs, ...index]) if (!copies.has(name)) await store.delete(name)
      assert.equal((await reader.readFile('a')).toString(), 'text')
      const to = join(folder.path, `to-${localDirectory}`)
      const { missed } = await reader.materialize(to, { signal: uninterrupted(), progress() {}, warn() {} })
      assert.deepEqual(missed, [])
      assert.deepEqual(readTree(to), readTree(tree))
      await reader.close()
    }
  })

  it('leaves no handle open, whatever was done with it', async () => {
    const local = await createLocalStorage(join(folder.path, 'store'))
    const before = handles()
    const made = await createTestRepository(local, folder.path)
    for (let i = 0; i < 3; i++) {
      const { point } = await backUp(made.repository, tree, { source: `s${i}` })
      await assertRestores(made.repository, point.id, readTree(tree))
      await assertSound(made.repository)
      const reader = await made.repository.openPoint(point.id, { signal: uninterrupted() })
      await reader.readFile('a')
      await reader.close()
      const session = await made.repository.startPoint(startRequest())
      await hand(session, tree)
      await session.discard()
    }
    await made.repository.close()
    assert.deepEqual(handles(), before)
    await local.close()
  })

  it('rejects what still runs when it is closed, and what is asked of it afterwards', async () => {
    const { repository } = await createTestRepository(storage, folder.path, 1)
    await backUp(repository, tree, { source: 'before' })
    const session = await repository.startPoint(startRequest())
    await hand(session, tree)
    const committing = session.commit({ kind: 'full', root: '/', positions: {}, sourceBytes: 0, missed: [] })
    const outcome = assert.rejects(committing, { code: 'interrupted' })
    await repository.close()
    await outcome
    await assert.rejects(verify(repository), { code: 'interrupted' })
  })
})

/** Of this process: files and folders, by path. */
function handles(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return '' // The handle of this very listing.
      }
    })
    .filter((path) => path.startsWith('/') && !/^.(proc|dev.(null|pts|tty|urandom))/.test(path))
    .sort()
}

async function copyToDisk(memory: MemoryStorage, directory: string): Promise<Storage> {
  const local = await createLocalStorage(directory)
  for (const [name, bytes] of memory.objects) await local.put(name, bytes)
  return local
}
