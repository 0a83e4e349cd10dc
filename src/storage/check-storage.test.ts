import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { rejectsWith } from '../../test/contract/storage.ts'
import { RegainError } from '../errors.ts'
import { checkStorage } from './check-storage.ts'
import type { Storage } from './contract.ts'
import { type MemoryStorage, openMemoryStorage } from './memory.ts'

const ambient = { randomBytes }

async function broken(change: (memory: MemoryStorage) => Partial<Storage>): Promise<string[]> {
  const memory = openMemoryStorage()
  const findings = await checkStorage({ ...memory, ...change(memory) }, ambient)
  return findings.filter((finding) => finding.broken !== null).map(({ what, broken: seen }) => `${what}: ${seen}`)
}

test('a store that keeps its contract has no finding, and holds nothing afterwards', async () => {
  const memory = openMemoryStorage()
  memory.objects.set('packs/1', Buffer.from('x'))
  const findings = await checkStorage(memory, ambient)
  assert.deepEqual(
    findings.filter((finding) => finding.broken !== null),
    [],
  )
  assert.deepEqual([...memory.objects.keys()], ['packs/1'])
})

test('a create that always makes the object is found', async () => {
  const found = await broken((memory) => ({
    create: async (name, bytes) => {
      await memory.put(name, bytes)
      return true
    },
  }))
  assert.match(found.join('\n'), /create made an object that was there already/)
  assert.match(found.join('\n'), /of 12 who made the same object at the same time, 12 were told that they did/)
})

test('a list that is late is found', async () => {
  const found = await broken((memory) => {
    let shown: string[] = []
    return {
      async *list(prefix) {
        const before = shown
        shown = [...memory.objects.keys()]
        for (const name of before) {
          const size = memory.objects.get(name)?.length
          if (size !== undefined && name.startsWith(prefix)) yield { name, size }
        }
      },
    }
  })
  assert.match(
    found.join('\n'),
    /lists what was put, at once, by prefix: after 1 objects were stored, the list is another/,
  )
})

test('a lock that does not hold is found', async () => {
  const found = await broken(() => ({
    immutability: {
      periodMs: 1,
      extend: async () => {},
      isExtended: async () => true,
      lockedUntil: async () => Number.MAX_SAFE_INTEGER,
    },
  }))
  assert.deepEqual(found, [
    'keeps what is locked from being replaced and removed: a locked object could be removed or replaced',
  ])
})

test('what cannot be found out is said, and the others are checked all the same', async () => {
  const found = await broken((memory) => ({
    delete: (name) => (name.endsWith('/b') ? memory.delete(`${name}/../x`) : memory.delete(name)),
  }))
  assert.equal(found.length, 1)
  assert.match(found[0]!, /^deletes, .*is not a name for an object/)
})

test('ends when it is interrupted, and cleans up', async () => {
  const memory = openMemoryStorage()
  await rejectsWith('interrupted', checkStorage(memory, ambient, { signal: AbortSignal.abort() }))
  assert.deepEqual([...memory.objects.keys()], [])
})

test('a store that can not be used at all is no broken one', async () => {
  for (const code of ['storage-denied', 'storage-full', 'storage-unavailable'] as const) {
    const memory = openMemoryStorage()
    const put = () => Promise.reject(new RegainError(code, 'no'))
    await rejectsWith(code, checkStorage({ ...memory, put }, ambient))
  }
})

test('one that refuses something is told with what it said', async () => {
  const found = await broken(() => ({
    delete: () => Promise.reject(new RegainError('storage-denied', 'It may not be deleted.')),
  }))
  assert.match(found.join('\n'), /^deletes, and does not mind an absent object: It may not be deleted$/m)
})
