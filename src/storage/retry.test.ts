import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { listed, rejectsWith, storageContract } from '../../test/contract/storage.ts'
import { RegainError } from '../errors.ts'
import type { Storage } from './contract.ts'
import { type Fault, type FaultScript, type FaultyStorage, withFaults } from './fault.ts'
import { type MemoryStorage, openMemoryStorage } from './memory.ts'
import { markNotApplied } from './not-applied.ts'
import { withRetries } from './retry.ts'
import type { Waiting } from './waiting.ts'

storageContract('retries', async () => ({
  storage: withRetries(openMemoryStorage(), { randomBytes, log: () => {} }),
  dispose: async () => {},
}))

const refused = (): Fault => ({
  kind: 'reject-before',
  error: markNotApplied(new RegainError('storage-unavailable', 'No.')),
})
const AWAY: Fault = { kind: 'reject-before' }
const UNCLEAR: Fault = { kind: 'reject-after' }

interface Setting {
  storage: Storage
  faulty: FaultyStorage
  memory: MemoryStorage
  delays: number[]
  logged: string[]
}

function build(script: FaultScript): Setting {
  const memory = openMemoryStorage()
  const faulty = withFaults(memory, script)
  const delays: number[] = []
  const logged: string[] = []
  let nowMs = 0
  const waiting: Waiting = {
    nowMs: () => nowMs,
    async sleep(delayMs, signal) {
      if (signal?.aborted) throw new RegainError('interrupted', 'The operation was interrupted.')
      delays.push(delayMs)
      nowMs += delayMs
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
  // The largest that can be drawn: delays are at their limits.
  const ambient = {
    randomBytes: (size: number) => Buffer.alloc(size, 255),
    log: (_: string, line: string) => logged.push(line),
  }
  return { storage: withRetries(faulty, ambient, waiting), faulty, memory, delays, logged }
}

const firstOf =
  (operation: string, times: number, fault: () => Fault): FaultScript =>
  (call) =>
    call.operation === operation && call.nth <= times ? fault() : null

describe('retries', () => {
  it('repeats reads, listings and deletes, with delays that double', async () => {
    for (const operation of ['get', 'size', 'delete', 'list'] as const) {
      const { storage, faulty, memory, delays } = build(firstOf(operation, 4, () => AWAY))
      memory.objects.set('a/b', Buffer.from('x'))
      if (operation === 'get') assert.equal((await storage.get('a/b')).toString(), 'x')
      if (operation === 'size') assert.equal(await storage.size('a/b'), 1)
      if (operation === 'delete') await storage.delete('a/b')
      if (operation === 'list') assert.deepEqual(await listed(storage), [{ name: 'a/b', size: 1 }])
      assert.equal(faulty.count(operation), 5)
      assert.deepEqual(delays.map(Math.round), [100, 200, 400, 800])
    }
  })

  it('sends a write again when it is certain that nothing was done', async () => {
    const { storage, faulty } = build((call) => (call.nth <= 3 ? refused() : null))
    await storage.put('a', Buffer.from('x'))
    assert.equal(await storage.create('b', Buffer.from('x')), true)
    assert.equal(faulty.count('put'), 4)
    assert.equal(faulty.count('create'), 4)
  })

  it('never sends a write again after an unclear answer; looks, and takes what it finds', async () => {
    const { storage, faulty } = build((call) =>
      call.operation === 'put' || call.operation === 'create' ? UNCLEAR : null,
    )
    await storage.put('a', Buffer.from('x'))
    assert.equal(await storage.create('b', [Buffer.from('x'), Buffer.from('y')]), true)
    assert.equal(await storage.create('b', Buffer.from('z')), false)
    assert.equal(faulty.count('put'), 1)
    assert.equal(faulty.count('create'), 2)
  })

  it('leaves to the caller a write that was unclear and is not there', async () => {
    const { storage, faulty, memory } = build((call) =>
      call.operation === 'put' || call.operation === 'create' ? AWAY : null,
    )
    await rejectsWith('storage-unavailable', storage.put('a', Buffer.from('x')))
    await rejectsWith('storage-unavailable', storage.create('a', Buffer.from('x')))
    memory.objects.set('a', Buffer.from('older'))
    await rejectsWith('storage-unavailable', storage.put('a', Buffer.from('x')))
    assert.equal(faulty.count('put') + faulty.count('create'), 3)
  })

  it('gives up after a bounded number of attempts, and repeats nothing that is no absence', async () => {
    const { storage, faulty } = build(() => AWAY)
    await rejectsWith('storage-unavailable', storage.get('a'))
    assert.equal(faulty.count('get'), 12)
    for (const code of ['storage-denied', 'storage-full', 'storage-not-found', 'storage-locked'] as const) {
      const { storage: other, faulty: counted } = build(() => ({
        kind: 'reject-before',
        error: new RegainError(code, 'No.'),
      }))
      await rejectsWith(code, other.get('a'))
      await rejectsWith(code, other.put('a', Buffer.from('x')))
      assert.equal(counted.count(), 2)
    }
  })

  it('goes on with a listing that broke off, telling every object once', async () => {
    const memory = openMemoryStorage()
    for (let i = 0; i < 9; i++) memory.objects.set(`a/${i}`, Buffer.from('x'))
    let broken = 0
    const breaking: Storage = {
      ...memory,
      async *list(prefix) {
        for await (const object of memory.list(prefix)) {
          yield object
          if (object.name === 'a/4' && broken++ < 2) throw new RegainError('storage-unavailable', 'No.')
        }
      },
    }
    const storage = withRetries(breaking, { randomBytes: (size) => Buffer.alloc(size), log: () => {} })
    const names: string[] = []
    for await (const { name } of storage.list('a/')) names.push(name)
    assert.deepEqual(names.sort(), [...memory.objects.keys()])
    assert.equal(broken, 3)
  })

  it('lets one call at a time try a store that is away, and says so once', async () => {
    let isAway = true
    const { storage, faulty, logged, memory } = build((call) => {
      if (isAway && call.number > 60) isAway = false
      return isAway ? AWAY : null
    })
    memory.objects.set('a', Buffer.from('x'))
    const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => storage.get('a')))
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 50)
    assert.ok(faulty.count('get') <= 50 + 60, `${faulty.count('get')} calls`)
    assert.deepEqual(logged, [
      'memory, with faults does not answer; it is tried again every few seconds.',
      'memory, with faults answers again.',
    ])
  })

  it('ends at once when the signal fires while it waits', async () => {
    const controller = new AbortController()
    const { storage, faulty } = build(() => {
      controller.abort()
      return AWAY
    })
    await rejectsWith('interrupted', storage.get('a', undefined, { signal: controller.signal }))
    assert.equal(faulty.count(), 1)
  })
})
