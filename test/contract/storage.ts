import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../../src/errors.ts'
import type { Storage, StoredObject } from '../../src/storage/contract.ts'
import { type Effort, GUARANTEES, listed as listedUnder } from '../../src/storage/guarantees.ts'

export interface StorageUnderTest {
  /** Empty. */
  storage: Storage
  /** Removes all traces; the suite has closed the storage. */
  dispose(): Promise<void>
}

/** A store that is far away or slow gets by with less. */
interface ContractEffort extends Effort {
  sequences: number
}

const FULL: ContractEffort = { racers: 50, rounds: 5, largest: 20 * 1024 * 1024, sequences: 40 }
export const REMOTE: ContractEffort = { racers: 12, rounds: 2, largest: 20 * 1024 * 1024, sequences: 5 }

/** What src/storage/contract.ts promises, checked against one driver. */
export function storageContract(
  driver: string,
  open: () => Promise<StorageUnderTest>,
  effort: ContractEffort = FULL,
): void {
  const promises = (what: string, check: (storage: Storage) => Promise<void>) =>
    it(what, async () => {
      const { storage, dispose } = await open()
      try {
        await check(storage)
      } finally {
        await storage.close()
        await dispose()
      }
    })

  describe(`storage contract: ${driver}`, () => {
    describe('guarantees', () => {
      for (const { what, check } of GUARANTEES)
        promises(what, async (storage) =>
          assert.equal(await check({ storage, prefix: 'scratch/', effort, options: {}, randomBytes }), null),
        )
    })
    describe('bytes', () => checkBytes(promises))
    describe('names', () => checkNames(promises))
    describe('concurrency', () => checkConcurrency(promises, effort))
    describe('interruption', () => checkInterruption(promises))
    promises('behaves like a map from names to bytes', (storage) => behavesLikeMap(storage, effort))
  })
}

type Promises = (what: string, check: (storage: Storage) => Promise<void>) => void

function checkBytes(promises: Promises): void {
  promises('writes pieces end to end', async (storage) => {
    const shared = new Uint8Array(new SharedArrayBuffer(100)).fill(7)
    const large = randomBytes(9 * 1024 * 1024)
    const many = Array.from({ length: 3000 }, (_, i) => Buffer.from(`piece ${i};`))
    for (const pieces of [
      [],
      [Buffer.alloc(0)],
      [Buffer.alloc(0), shared.subarray(3, 20), Buffer.alloc(0), large, Buffer.alloc(0), large],
      many,
    ]) {
      await storage.put('pieces', pieces)
      assert.ok((await storage.get('pieces')).equals(Buffer.concat(pieces)))
    }
    assert.equal(await storage.create('made', many), true)
    assert.ok((await storage.get('made')).equals(Buffer.concat(many)))
  })

  promises('shares no memory with the caller', async (storage) => {
    const bytes = Buffer.from('original')
    await storage.put('a', bytes)
    bytes.fill(0)
    const answer = await storage.get('a')
    assert.equal(answer.toString(), 'original')
    answer.fill(0)
    assert.equal((await storage.get('a')).toString(), 'original')
  })

  promises('refuses ranges that are none', async (storage) => {
    await storage.put('a', Buffer.from('0123456789'))
    for (const [offset, length] of [
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [0, Number.NaN],
      [0, Number.POSITIVE_INFINITY],
    ] as const) {
      await rejectsWith('internal', storage.get('a', { offset, length }))
    }
  })
}

const BAD_NAMES = [
  '',
  '/',
  '.',
  '..',
  '../a',
  'a/..',
  'a/../b',
  './a',
  'a/.',
  '/a',
  'a/',
  'a//b',
  'a\\b',
  'a b',
  'a\0b',
  'a\n',
  'é',
  'a+b',
  '+tmp/1',
  'a:b',
  `${'a'.repeat(201)}`,
  `${'a/'.repeat(100)}b`,
]

function checkNames(promises: Promises): void {
  promises('refuses every other name before anything happens', async (storage) => {
    for (const name of BAD_NAMES) {
      await rejectsWith('internal', storage.put(name, Buffer.from('x')))
      await rejectsWith('internal', storage.create(name, Buffer.from('x')))
      await rejectsWith('internal', storage.get(name))
      await rejectsWith('internal', storage.size(name))
      await rejectsWith('internal', storage.delete(name))
    }
    assert.deepEqual(await listed(storage), [])
    for (const prefix of ['a', '/', '../', 'a//', './', 'a/../']) await rejectsWith('internal', listed(storage, prefix))
  })

  promises('keeps apart an object and the names around it', async (storage) => {
    await storage.put('a/b', Buffer.from('x'))
    for (const name of ['a', 'a/b/c', 'a/b/c/d']) {
      await rejectsWith('storage-not-found', storage.get(name))
      assert.equal(await storage.size(name), null)
      await storage.delete(name)
    }
    assert.deepEqual(await listed(storage), [{ name: 'a/b', size: 1 }])
    assert.deepEqual(await listed(storage, 'a/b/'), [])
  })
}

function checkConcurrency(promises: Promises, effort: ContractEffort): void {
  promises('makes no half object visible to a reader who waits for it', async (storage) => {
    const bytes = randomBytes(3_000_000)
    for (let round = 0; round < effort.rounds; round++) {
      let done = false
      const look = async () => {
        while (!done) {
          const size = await storage.size(`new/${round}`)
          assert.ok(size === null || size === bytes.length)
        }
      }
      const write = storage.create(`new/${round}`, bytes).finally(() => (done = true))
      await Promise.all([write, look()])
    }
  })
}

function checkInterruption(promises: Promises): void {
  promises('does nothing once the signal has fired', async (storage) => {
    await storage.put('a', Buffer.from('x'))
    const options = { signal: AbortSignal.abort() }
    await rejectsWith('interrupted', storage.put('b', Buffer.from('x'), options))
    await rejectsWith('interrupted', storage.create('b', Buffer.from('x'), options))
    await rejectsWith('interrupted', storage.get('a', undefined, options))
    await rejectsWith('interrupted', storage.size('a', options))
    await rejectsWith('interrupted', storage.delete('a', options))
    await rejectsWith('interrupted', collect(storage.list('', options)))
    assert.deepEqual(await listed(storage), [{ name: 'a', size: 1 }])
  })

  promises('ends whole or absent when the signal fires on the way', async (storage) => {
    const bytes = randomBytes(24 * 1024 * 1024)
    for (const write of ['put', 'create'] as const) {
      const controller = new AbortController()
      const outcome = storage[write](`a/${write}`, bytes, { signal: controller.signal }).then(
        () => 'written',
        (error) => (isRegainError(error, 'interrupted') ? 'interrupted' : Promise.reject(error)),
      )
      controller.abort()
      const size = (await outcome) === 'written' ? bytes.length : null
      assert.equal(await storage.size(`a/${write}`), size)
    }
  })
}

/** Any sequence of calls has the outcome that a Map would have. Fast-check prints seed and sequence of a failure. */
async function behavesLikeMap(storage: Storage, effort: ContractEffort): Promise<void> {
  const name = fc.constantFrom('a', 'b', 'c/d', 'c/e', 'c/f/g', 'h/i')
  const bytes = fc.uint8Array({ maxLength: 50 })
  const step = fc.oneof(
    fc.record({ do: fc.constant('put' as const), name, bytes }),
    fc.record({ do: fc.constant('create' as const), name, bytes }),
    fc.record({ do: fc.constant('delete' as const), name }),
    fc.record({ do: fc.constant('get' as const), name, offset: fc.nat(60), length: fc.nat(60) }),
    fc.record({ do: fc.constant('list' as const), prefix: fc.constantFrom('', 'c/', 'c/f/', 'h/', 'z/') }),
  )
  const property = fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
    for (const { name: left } of await listed(storage)) await storage.delete(left)
    const model = new Map<string, Uint8Array>()
    for (const next of steps) {
      if (next.do === 'put') {
        await storage.put(next.name, next.bytes)
        model.set(next.name, next.bytes)
      } else if (next.do === 'create') {
        assert.equal(await storage.create(next.name, next.bytes), !model.has(next.name))
        if (!model.has(next.name)) model.set(next.name, next.bytes)
      } else if (next.do === 'delete') {
        await storage.delete(next.name)
        model.delete(next.name)
      } else if (next.do === 'get') {
        const expected = model.get(next.name)
        assert.equal(await storage.size(next.name), expected?.length ?? null)
        if (!expected) await rejectsWith('storage-not-found', storage.get(next.name, next))
        else {
          const slice = Buffer.from(expected.subarray(next.offset, next.offset + next.length))
          assert.deepEqual(await storage.get(next.name, next), slice)
        }
      } else {
        const expected = [...model].filter(([key]) => key.startsWith(next.prefix))
        assert.deepEqual(
          await listed(storage, next.prefix),
          expected.map(([key, value]) => ({ name: key, size: value.length })).sort(byName),
        )
      }
    }
  })
  await fc.assert(property, { numRuns: effort.sequences })
}

/** Everything under the prefix, sorted. */
export function listed(storage: Storage, prefix = ''): Promise<StoredObject[]> {
  return listedUnder(storage, prefix)
}

async function collect(objects: AsyncIterable<StoredObject>): Promise<StoredObject[]> {
  const all: StoredObject[] = []
  for await (const object of objects) all.push(object)
  return all
}

function byName(a: StoredObject, b: StoredObject): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

export async function rejectsWith(code: Parameters<typeof isRegainError>[1], outcome: Promise<unknown>): Promise<void> {
  await assert.rejects(outcome, (error) => {
    assert.ok(isRegainError(error), `expected ${code}, got ${error}`)
    assert.equal(error.code, code)
    return true
  })
}
