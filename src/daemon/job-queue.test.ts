import assert from 'node:assert/strict'
import { test } from 'node:test'
import { JobQueue } from './job-queue.ts'

function job() {
  const begun: string[] = []
  const ends = new Map<string, () => void>()
  const run = (name: string) => () =>
    new Promise<void>((resolve) => {
      begun.push(name)
      ends.set(name, resolve)
    })
  const settle = async () => {
    for (let i = 0; i < 5; i++) await Promise.resolve()
  }
  return { begun, run, settle, end: (name: string) => ends.get(name)?.() }
}

test('jobs run in order, at most so many at once', async () => {
  const { begun, run, settle, end } = job()
  const queue = new JobQueue(2, new AbortController().signal)
  for (const name of ['a', 'b', 'c', 'd']) assert.equal(queue.offer(name, run(name)), true)
  assert.deepEqual(begun, ['a', 'b'])
  end('b')
  await settle()
  assert.deepEqual(begun, ['a', 'b', 'c'])
  assert.deepEqual(queue.running, ['a', 'c'])
  for (const name of ['a', 'c', 'd']) {
    end(name)
    await settle()
  }
  await queue.idle()
  assert.deepEqual(begun, ['a', 'b', 'c', 'd'])
})

test('a key is refused while it is queued or running, and taken again after', async () => {
  const { run, settle, end } = job()
  const queue = new JobQueue(1, new AbortController().signal)
  assert.equal(queue.offer('a', run('a')), true)
  assert.equal(queue.offer('a', run('a')), false)
  assert.equal(queue.offer('b', run('b')), true)
  assert.equal(queue.offer('b', run('b')), false)
  end('a')
  await settle()
  assert.equal(queue.offer('a', run('a')), true)
})

test('stopping drops what waits; what runs is waited for', async () => {
  const { begun, run, end } = job()
  const stop = new AbortController()
  const queue = new JobQueue(1, stop.signal)
  queue.offer('a', run('a'))
  queue.offer('b', run('b'))
  stop.abort()
  assert.equal(queue.offer('c', run('c')), false)
  const idle = queue.idle()
  end('a')
  await idle
  assert.deepEqual(begun, ['a'])
  assert.equal(queue.has('b'), false)
})
