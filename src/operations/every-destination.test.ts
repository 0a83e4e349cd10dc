import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RegainError } from '../errors.ts'
import type { LogMeta, LogStore } from '../sources/contract.ts'
import { EveryDestination } from './every-destination.ts'

/** A log in memory, which can be switched off as a destination that is away. */
class MemoryLog implements LogStore {
  readonly segments = new Map<string, Buffer>()
  readonly tails = new Map<string, Buffer>()
  readonly histories = new Map<string, Buffer>()
  isAway = false

  async putSegment(branch: string, name: string, bytes: Buffer): Promise<void> {
    this.#reach()
    this.segments.set(`${branch}/${name}`, bytes)
  }
  async putTail(branch: string, name: string, offset: number, bytes: Buffer): Promise<void> {
    this.#reach()
    const key = `${branch}/${name}`
    const before = this.tails.get(key) ?? Buffer.alloc(0)
    this.tails.set(key, Buffer.concat([before.subarray(0, offset), bytes]))
  }
  async dropTails(branch: string, name: string): Promise<void> {
    this.#reach()
    this.tails.delete(`${branch}/${name}`)
  }
  async putHistory(name: string, bytes: Buffer): Promise<void> {
    this.#reach()
    this.histories.set(name, bytes)
  }
  async holds(branch: string, name: string) {
    return (await this.list()).segments.some((segment) => segment.branch === branch && segment.name === name)
  }
  async list() {
    this.#reach()
    const split = (key: string) => ({ branch: key.slice(0, 1), name: key.slice(2) })
    return {
      segments: [...this.segments.keys()].map(split),
      tails: [...this.tails].map(([key, bytes]) => ({ ...split(key), available: bytes.length })),
      histories: [...this.histories.keys()],
    }
  }
  async read(branch: string, name: string) {
    const segment = this.segments.get(`${branch}/${name}`)
    const bytes = segment ?? this.tails.get(`${branch}/${name}`)
    return bytes === undefined ? null : { bytes, whole: segment !== undefined, meta: META }
  }
  async readUntil(pieces: readonly { branch: string; name: string }[]) {
    return Promise.all(pieces.map(async ({ branch, name }) => (await this.read(branch, name))?.meta.until ?? null))
  }
  async readHistory(name: string) {
    return this.histories.get(name) ?? null
  }
  #reach(): void {
    if (this.isAway) throw new RegainError('storage-unavailable', 'The destination is away.')
  }
}

const META: LogMeta = { until: '2026-01-10T02:00:00Z' }

test('a piece is durable only when every destination has it; the others still get theirs', async () => {
  const [near, far] = [new MemoryLog(), new MemoryLog()]
  const log = new EveryDestination([near, far])
  await log.putSegment('1', 'A', Buffer.from('whole'), META)
  near.isAway = true
  await assert.rejects(log.putSegment('1', 'B', Buffer.from('whole'), META), { code: 'storage-unavailable' })
  assert.ok(far.segments.has('1/B'))
  near.isAway = false
  assert.deepEqual((await log.list()).segments, [{ branch: '1', name: 'A' }])
  assert.equal(await log.read('1', 'B'), null)
  await log.putSegment('1', 'B', Buffer.from('whole'), META)
  assert.equal((await log.list()).segments.length, 2)
})

test('of an unfinished segment there is what the slowest destination has', async () => {
  const [near, far] = [new MemoryLog(), new MemoryLog()]
  const log = new EveryDestination([near, far])
  await log.putTail('1', 'C', 0, Buffer.from('0123'), META)
  await near.putTail('1', 'C', 4, Buffer.from('45'))
  assert.deepEqual((await log.list()).tails, [{ branch: '1', name: 'C', available: 4 }])
  assert.equal((await log.read('1', 'C'))?.bytes.toString(), '0123')

  await near.putSegment('1', 'C', Buffer.from('0123456789'))
  await near.dropTails('1', 'C')
  const listing = await log.list()
  assert.deepEqual(listing.segments, [])
  assert.deepEqual(listing.tails, [{ branch: '1', name: 'C', available: 4 }])
  const piece = await log.read('1', 'C')
  assert.deepEqual([piece?.whole, piece?.bytes.toString()], [false, '0123'])

  await far.dropTails('1', 'C')
  assert.deepEqual((await log.list()).tails, [])
})

test('histories count when all have them, and can be read from any', async () => {
  const [near, far] = [new MemoryLog(), new MemoryLog()]
  const log = new EveryDestination([near, far])
  await far.putHistory('00000002.history', Buffer.from('1 0/3000000'))
  assert.deepEqual((await log.list()).histories, [])
  assert.equal((await log.readHistory('00000002.history'))?.toString(), '1 0/3000000')
  assert.equal(await log.readHistory('00000003.history'), null)
})
