import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { isRegainError } from '../errors.ts'
import type { Storage } from './contract.ts'
import { createLocalStorage, openLocalStorage } from './local.ts'

/** The files behind the objects. What every store promises is in test/contract/storage.ts. */
describe('local storage', () => {
  let parent: string
  let directory: string
  let storage: Storage

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'regain-local-'))
    directory = join(parent, 'a', 'store')
    storage = await createLocalStorage(directory)
  })

  afterEach(async () => {
    await storage.close()
    await rm(parent, { recursive: true })
  })

  it('keeps each object as a file of its name, for its own user only', async () => {
    await storage.put('x/y/put', Buffer.from('1'))
    await storage.create('x/y/created', Buffer.from('2'))
    for (const path of ['x/y/put', 'x/y/created']) assert.equal((await lstat(join(directory, path))).mode, 0o100600)
    for (const path of ['', 'x', 'x/y', '+tmp']) assert.equal((await lstat(join(directory, path))).mode, 0o40700)
    assert.equal((await lstat(join(parent, 'a'))).mode, 0o40700)
    assert.equal(storage.localDirectory, directory)
    assert.equal(storage.description, `local ${directory}`)
  })

  it('leaves no temporary files, whatever the outcome', async () => {
    await storage.put('a', Buffer.from('1'))
    await storage.put('a', Buffer.from('2'))
    await storage.create('b', Buffer.from('1'))
    await storage.create('b', Buffer.from('2'))
    await mkdir(join(directory, 'folder/below'), { recursive: true })
    await rejectsWith('storage-unavailable', storage.put('folder', Buffer.from('1')))
    await rejectsWith('storage-unavailable', storage.put('a/b', Buffer.from('1')))
    await rejectsWith('storage-unavailable', storage.create('a/b', Buffer.from('1')))
    assert.deepEqual(await readdir(join(directory, '+tmp')), [])
    assert.equal((await lstat(join(directory, 'b'))).nlink, 1)
  })

  it('stops a write on the way when the signal fires, and cleans up', async () => {
    for (const write of ['put', 'create'] as const) {
      const controller = new AbortController()
      const taken = new Set<number>()
      const piece = Buffer.alloc(4 * 1024 * 1024)
      const pieces = Array.from({ length: 16 }, () => piece)
      for (const i of pieces.keys()) {
        Object.defineProperty(pieces, i, {
          get() {
            taken.add(i)
            if (i === 4) controller.abort()
            return piece
          },
        })
      }
      await rejectsWith('interrupted', storage[write]('a', pieces, { signal: controller.signal }))
      assert.ok(!taken.has(8), 'writing went on')
      assert.equal(await storage.size('a'), null)
      assert.deepEqual(await readdir(join(directory, '+tmp')), [])
    }
  })

  it('stops reading and listing on the way when the signal fires', async () => {
    await storage.put('large', Buffer.alloc(64 * 1024 * 1024))
    const controller = new AbortController()
    const reading = storage.get('large', undefined, { signal: controller.signal })
    setImmediate(() => controller.abort())
    await rejectsWith('interrupted', reading)

    await Promise.all(Array.from({ length: 100 }, (_, i) => storage.put(`many/${i}`, Buffer.alloc(0))))
    const other = new AbortController()
    let seen = 0
    const list = async () => {
      for await (const _ of storage.list('', { signal: other.signal })) if (++seen === 3) other.abort()
    }
    await rejectsWith('interrupted', list())
    assert.ok(seen < 100)
  })

  it('never takes foreign files for objects', async () => {
    await storage.put('x/real', Buffer.from('real'))
    const foreign = join(directory, 'x')
    await writeFile(join(foreign, 'with space'), '')
    await writeFile(join(foreign, 'ümlaut'), '')
    await writeFile(join(foreign, 'a+b'), '')
    await writeFile(join(foreign, 'backup~'), '')
    await writeFile(Buffer.concat([Buffer.from(`${foreign}/`), Buffer.from([0xff, 0xfe])]), '')
    await writeFile(join(foreign, 'n'.repeat(199)), '')
    await writeFile(join(directory, '+tmp', '1-2-3'), '')
    await symlink('real', join(foreign, 'link'))
    await symlink('.', join(foreign, 'loop'))
    await mkdir(join(directory, 'lost+found/x'), { recursive: true })
    await writeFile(join(directory, 'lost+found/x/y'), '')
    execFileSync('mkfifo', [join(foreign, 'fifo')])

    assert.deepEqual(await names(storage), ['x/real'])
    for (const name of ['x/link', 'x/fifo', 'x/loop', 'x']) {
      assert.equal(await storage.size(name), null)
      await rejectsWith('storage-not-found', storage.get(name))
      await rejectsWith('storage-not-found', storage.get(name, { offset: 0, length: 1 }))
    }
    assert.equal(await storage.create('x/link', Buffer.from('x')), false)
  })

  it('makes a folder again that vanished', async () => {
    for (const write of ['put', 'create'] as const) {
      await storage.put('x/y/z', Buffer.from('1'))
      await rm(join(directory, 'x'), { recursive: true })
      await rm(join(directory, '+tmp'), { recursive: true })
      assert.deepEqual(await names(storage), [])
      await storage[write]('x/y/z', Buffer.from('2'))
      assert.deepEqual(await names(storage), ['x/y/z'])
    }
  })

  it('rejects once its directory is another one', async () => {
    await storage.put('x/y', Buffer.from('1'))
    await rename(directory, `${directory}-moved`)
    await everythingIsUnavailable(storage)
    await mkdir(directory)
    await everythingIsUnavailable(storage)
    assert.deepEqual(await readdir(directory), [])
  })

  it('tells a missing directory from one that cannot be used', async () => {
    await rejectsWith('storage-not-found', openLocalStorage(join(parent, 'none')))
    await writeFile(join(parent, 'file'), '')
    await rejectsWith('storage-unavailable', openLocalStorage(join(parent, 'file')))
    await rejectsWith('storage-unavailable', createLocalStorage(join(parent, 'file')))
    await rejectsWith('storage-unavailable', createLocalStorage(join(parent, 'file', 'below')))
  })

  it('opens what was made before', async () => {
    await storage.put('x/y', Buffer.from('1'))
    for (const open of [openLocalStorage, createLocalStorage]) {
      const again = await open(directory)
      assert.deepEqual(await names(again), ['x/y'])
      await again.close()
      await again.close()
    }
  })

  it('reports missing rights as denied, and does not list around them', async () => {
    await storage.put('x/y', Buffer.from('1'))
    await storage.put('open', Buffer.from('1'))
    await asOrdinaryUser(parent, async () => {
      await chmod(join(directory, 'x'), 0)
      await rejectsWith('storage-denied', storage.get('x/y'))
      await rejectsWith('storage-denied', storage.size('x/y'))
      await rejectsWith('storage-denied', names(storage))
      await rejectsWith('storage-denied', storage.put('x/z', Buffer.from('1')))
      await rejectsWith('storage-denied', storage.create('x/z', Buffer.from('1')))
      await rejectsWith('storage-denied', storage.delete('x/y'))
      await chmod(join(directory, 'x'), 0o700)
      await chmod(directory, 0)
      await rejectsWith('storage-denied', openLocalStorage(directory))
      await rejectsWith('storage-denied', createLocalStorage(join(directory, 'new')))
      await chmod(directory, 0o700)
      assert.deepEqual(await readdir(join(directory, '+tmp')), [])
      assert.deepEqual(await names(storage), ['open', 'x/y'])
    })
  })
})

async function everythingIsUnavailable(storage: Storage): Promise<void> {
  await rejectsWith('storage-unavailable', storage.get('x/y'))
  await rejectsWith('storage-unavailable', storage.size('x/y'))
  await rejectsWith('storage-unavailable', storage.put('x/y', Buffer.from('2')))
  await rejectsWith('storage-unavailable', storage.create('x/z', Buffer.from('2')))
  await rejectsWith('storage-unavailable', storage.delete('x/y'))
  await rejectsWith('storage-unavailable', names(storage))
}

/** Rights do not bind root, so root lays them down for the while: for the calls of this test file's process only. */
async function asOrdinaryUser(parent: string, work: () => Promise<void>): Promise<void> {
  if (process.geteuid?.() !== 0) return work()
  const nobody = 65534
  for (const path of ['', ...(await readdir(parent, { recursive: true }))])
    await chown(join(parent, path), nobody, nobody)
  process.seteuid?.(nobody)
  try {
    await work()
  } finally {
    process.seteuid?.(0)
  }
}

async function names(storage: Storage): Promise<string[]> {
  const found: string[] = []
  for await (const { name } of storage.list('')) found.push(name)
  return found.sort()
}

async function rejectsWith(code: Parameters<typeof isRegainError>[1], outcome: Promise<unknown>): Promise<void> {
  await assert.rejects(outcome, (error) => {
    assert.ok(isRegainError(error), `expected ${code}, got ${error}`)
    assert.equal(error.code, code, error.message)
    return true
  })
}
