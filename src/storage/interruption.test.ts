import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RegainError } from '../errors.ts'
import type { CallOptions, Storage } from './contract.ts'
import { withInterruption } from './interruption.ts'
import { openMemoryStorage } from './memory.ts'

/** A store that never answers, and ends a call as the contract says when its signal fires. */
function silent(): Storage {
  const wait = (options?: CallOptions) =>
    new Promise<never>((_, reject) => {
      options?.signal?.addEventListener('abort', () => reject(new RegainError('interrupted', 'It was interrupted.')))
    })
  return {
    description: 'silent',
    put: (_name, _bytes, options) => wait(options),
    create: (_name, _bytes, options) => wait(options),
    get: (_name, _range, options) => wait(options),
    size: (_name, options) => wait(options),
    list: async function* (_prefix, options) {
      yield await wait(options)
    },
    delete: (_name, options) => wait(options),
    close: async () => undefined,
  }
}

test('a store that does not answer holds nobody up who interrupted, whatever was asked of it', async () => {
  for (const isEarly of [true, false]) {
    const interrupt = new AbortController()
    if (isEarly) interrupt.abort()
    const storage = withInterruption(silent(), interrupt.signal, 1)
    const calls = [
      storage.put('a', Buffer.alloc(1)),
      storage.create('a', Buffer.alloc(1), { keep: true }),
      storage.get('a'),
      storage.size('a'),
      storage.delete('a'),
      (async () => {
        for await (const _ of storage.list('')) assert.fail()
      })(),
    ]
    interrupt.abort()
    for (const call of calls) await assert.rejects(call, { code: 'interrupted' })
  }
})

test("a call's own signal decides about it, and nothing changes before an interruption", async () => {
  const interrupt = new AbortController()
  const own = new AbortController()
  const storage = withInterruption(silent(), interrupt.signal, 1)
  const call = storage.get('a', undefined, { signal: own.signal })
  interrupt.abort()
  await assert.rejects(storage.size('a'), { code: 'interrupted' })
  own.abort()
  await assert.rejects(call, { code: 'interrupted' })

  const memory = withInterruption(openMemoryStorage(), new AbortController().signal)
  assert.equal(await memory.create('a', Buffer.from('x'), { keep: true }), true)
  assert.equal((await memory.get('a')).toString(), 'x')
})
