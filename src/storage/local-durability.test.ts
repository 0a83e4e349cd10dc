import assert from 'node:assert/strict'
import { existsSync, readlinkSync } from 'node:fs'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { after, before, describe, it, mock } from 'node:test'
import { createLocalStorage } from './local.ts'

/**
 * No test can cut the power, so this one watches the syncs, which all go through, and what was visible at each: content
 * before its name, a name before the call resolves, a folder's own name before it is relied on.
 */
describe('durability of local storage', () => {
  let parent: string
  let syncs: string[]

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), 'regain-sync-'))
    const handle = await open(parent)
    const prototype: FileHandle = Object.getPrototypeOf(handle)
    await handle.close()
    for (const method of ['sync', 'datasync'] as const) {
      const original = prototype[method]
      mock.method(prototype, method, async function (this: FileHandle) {
        const path = relative(parent, readlinkSync(`/proc/self/fd/${this.fd}`)).replace(/\+tmp\/.*/, '+tmp/…')
        const seen = ['store', 'store/x', 'store/x/y'].filter((name) => existsSync(join(parent, name)))
        syncs.push(`${method} ${path || 'parent'} with ${seen.at(-1)}`)
        await original.call(this)
      })
    }
  })

  after(async () => {
    mock.restoreAll()
    await rm(parent, { recursive: true })
  })

  it('syncs content before name, and every new name', async () => {
    const during = async (work: () => Promise<unknown>) => {
      syncs = []
      await work()
      return syncs
    }
    assert.deepEqual(await during(async () => (await createLocalStorage(join(parent, 'store'))).close()), [
      'sync parent with store',
    ])

    const storage = await createLocalStorage(join(parent, 'store'))
    assert.deepEqual(await during(() => storage.put('x/y', Buffer.from('1'))), [
      'sync store with store',
      'datasync store/+tmp/… with store',
      'sync store with store/x',
      'sync store/x with store/x/y',
    ])
    assert.deepEqual(await during(() => storage.put('x/y', Buffer.from('2'))), [
      'datasync store/+tmp/… with store/x/y',
      'sync store/x with store/x/y',
    ])
    assert.deepEqual(await during(() => storage.delete('x/y')), ['sync store/x with store/x'])
    // Its first remover may not have got as far as syncing.
    assert.deepEqual(await during(() => storage.delete('x/y')), ['sync store/x with store/x'])
    assert.deepEqual(await during(() => storage.create('x/y', Buffer.from('3'))), [
      'datasync store/+tmp/… with store/x',
      'sync store/x with store/x/y',
    ])
    // The winner may not have got as far as syncing, and the loser acts on what it won.
    assert.deepEqual(await during(() => storage.create('x/y', Buffer.from('4'))), [
      'datasync store/+tmp/… with store/x/y',
      'sync store/x with store/x/y',
    ])
    await storage.close()

    const other = await createLocalStorage(join(parent, 'store'))
    assert.deepEqual(await during(() => other.put('x/y', Buffer.from('5'))), [
      'sync store with store/x/y',
      'datasync store/+tmp/… with store/x/y',
      'sync store with store/x/y',
      'sync store/x with store/x/y',
    ])
    await other.close()
  })
})
