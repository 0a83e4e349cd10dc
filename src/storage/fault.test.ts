import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isRegainError, RegainError } from '../errors.ts'
import { type Fault, type Operation, withFaults } from './fault.ts'
import { randomFaults } from './fault-script.ts'
import { openMemoryStorage } from './memory.ts'

describe('faults on purpose', () => {
  it('rejects before or after the call is carried out', async () => {
    const { memory, storage } = faulty('put', { kind: 'reject-before' })
    await rejectsWith('storage-unavailable', storage.put('a', Buffer.from('x')))
    assert.equal(memory.objects.size, 0)

    const full = new RegainError('storage-full', 'There is no room.')
    const after = faulty('create', { kind: 'reject-after', error: full })
    await rejectsWith('storage-full', after.storage.create('a', Buffer.from('x')))
    assert.equal(after.memory.objects.get('a')?.toString(), 'x')
    assert.equal(await after.storage.create('a', Buffer.from('y')), false)
  })

  it('rejects before the first or after the last object of a listing', async () => {
    for (const [kind, expected] of [
      ['reject-before', []],
      ['reject-after', ['a', 'b']],
    ] as const) {
      const { storage } = faulty('list', { kind })
      await storage.put('a', Buffer.from('x'))
      await storage.put('b', Buffer.from('x'))
      const seen: string[] = []
      const list = async () => {
        for await (const { name } of storage.list('')) seen.push(name)
      }
      await rejectsWith('storage-unavailable', list())
      assert.deepEqual(seen, expected)
    }
  })

  it('stores torn objects', async () => {
    const { memory, storage } = faulty('put', { kind: 'torn', keepBytes: 4 })
    await storage.put('a', [Buffer.from('abc'), Buffer.from('def')])
    assert.equal(memory.objects.get('a')?.toString(), 'abcd')
    await storage.put('a', Buffer.from('abcdef'))
    assert.equal(memory.objects.get('a')?.toString(), 'abcdef')
  })

  it('answers with a wrong bit, or too little, and keeps the object as it is', async () => {
    const bit = faulty('get', { kind: 'flip-bit', bit: 8 * 3 + 9 })
    await bit.storage.put('a', Buffer.from('abc'))
    assert.equal((await bit.storage.get('a')).toString(), 'a`c')
    assert.equal((await bit.storage.get('a')).toString(), 'abc')
    const cut = faulty('get', { kind: 'truncate', keepBytes: 2 })
    await cut.storage.put('a', Buffer.from('abc'))
    assert.equal((await cut.storage.get('a')).toString(), 'ab')
    assert.equal((await cut.storage.get('a')).toString(), 'abc')
  })

  it('hangs until the signal fires', async () => {
    const { memory, storage } = faulty('put', { kind: 'hang' })
    const controller = new AbortController()
    const outcome = storage.put('a', Buffer.from('x'), { signal: controller.signal })
    setImmediate(() => controller.abort())
    await rejectsWith('interrupted', outcome)
    assert.equal(memory.objects.size, 0)
    await rejectsWith('internal', faulty('put', { kind: 'hang' }).storage.put('a', Buffer.from('x')))
  })

  it('calls back before and after, and counts', async () => {
    for (const [when, seen] of [
      ['before', 0],
      ['after', 1],
    ] as const) {
      const found: number[] = []
      const { memory, storage } = faulty('put', { kind: 'call', when, run: () => void found.push(memory.objects.size) })
      await storage.put('a', Buffer.from('x'))
      await storage.put('b', Buffer.from('x'))
      assert.deepEqual(found, [seen])
      assert.equal(storage.count('put'), 2)
      assert.equal(storage.count('get'), 0)
      assert.equal(storage.count(), 2)
      assert.deepEqual(storage.calls[1], { number: 2, nth: 2, operation: 'put', name: 'b' })
    }
  })

  it('refuses a fault that the operation cannot have', async () => {
    await rejectsWith('internal', faulty('get', { kind: 'torn', keepBytes: 1 }).storage.get('a'))
    await rejectsWith('internal', faulty('put', { kind: 'flip-bit', bit: 1 }).storage.put('a', Buffer.from('x')))
    await rejectsWith('internal', faulty('size', { kind: 'truncate', keepBytes: 1 }).storage.size('a'))
  })
})

describe('random faults', () => {
  const kinds = ['reject-before', 'reject-after', 'torn', 'flip-bit', 'truncate'] as const
  const outcomes = (seed: number, order: number[], limit?: number) => {
    const script = randomFaults({ seed, rate: 0.3, kinds: [...kinds], ...(limit === undefined ? {} : { limit }) })
    const faults = order.map((i) => {
      const operation: Operation = i % 2 === 0 ? 'put' : 'get'
      return [i, script({ number: 1, nth: 1, operation, name: `object/${i}` })] as const
    })
    return new Map(faults)
  }
  const order = Array.from({ length: 1000 }, (_, i) => i)

  it('follow from the seed and the call, whatever the order of calls', () => {
    assert.deepEqual(outcomes(1, order), new Map([...outcomes(1, [...order].reverse())].reverse()))
    assert.notDeepEqual(outcomes(1, order), outcomes(2, order))
  })

  it('come at the rate asked for, of every kind, where they apply', () => {
    const faults = [...outcomes(7, order)].filter(([, fault]) => fault !== null)
    assert.ok(faults.length > 240 && faults.length < 360, `${faults.length} of 1000`)
    assert.deepEqual(new Set(faults.map(([, fault]) => fault!.kind)), new Set(kinds))
    for (const [i, fault] of faults) {
      if (fault!.kind === 'torn') assert.equal(i % 2, 0)
      if (fault!.kind === 'flip-bit' || fault!.kind === 'truncate') assert.equal(i % 2, 1)
    }
  })

  it('end at the limit, and differ from one call to its repetition', () => {
    assert.equal([...outcomes(7, order, 5).values()].filter(Boolean).length, 5)
    const script = randomFaults({ seed: 3, rate: 0.5, kinds: ['reject-before'], operations: ['put'] })
    const repeated = Array.from({ length: 50 }, () => script({ number: 1, nth: 1, operation: 'put', name: 'a' }))
    assert.equal(new Set(repeated.map((fault) => fault?.kind)).size, 2)
    assert.equal(script({ number: 1, nth: 1, operation: 'get', name: 'a' }), null)
  })
})

/** A store whose first call of the operation meets the fault. */
function faulty(operation: Operation, fault: Fault) {
  const memory = openMemoryStorage()
  const storage = withFaults(memory, (call) => (call.operation === operation && call.nth === 1 ? fault : null))
  return { memory, storage }
}

async function rejectsWith(code: Parameters<typeof isRegainError>[1], outcome: Promise<unknown>): Promise<void> {
  await assert.rejects(outcome, (error) => isRegainError(error, code))
}
