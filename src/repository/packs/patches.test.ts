import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  assertSound,
  chooseSeed,
  createTestRepository,
  seededNumbers,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
} from '../../../test/support/repository.ts'
import type { Entry, Point } from '../../model.ts'
import type { Storage } from '../../storage/contract.ts'
import { createLocalStorage } from '../../storage/local.ts'
import { openMemoryStorage } from '../../storage/memory.ts'
import type { PointSession } from '../api.ts'
import { PAGE_CHUNK_BYTES } from './chunker.ts'

const BLOCK = 8192
const SUMMARY = { kind: 'incremental', root: '/', positions: {}, sourceBytes: 0, missed: [] } as const
const file = (size: number): Entry => ({ path: 'table', type: 'file', mode: 0o600, uid: 0, gid: 0, mtime: '0', size })
const folder: Entry = { path: '', type: 'directory', mode: 0o700, uid: 0, gid: 0, mtime: '0' }

const STORES: Record<string, (path: string) => Promise<Storage>> = {
  'in memory': async () => openMemoryStorage(),
  'that threads read by themselves': (path) => createLocalStorage(`${path}/store`),
}

for (const [name, makeStorage] of Object.entries(STORES))
  describe(`a file of pages that is patched, in a repository ${name}`, () => {
    let place: ReturnType<typeof temporaryFolder>
    let storage: Storage
    let made: TestRepository

    before(async () => {
      place = temporaryFolder()
      storage = await makeStorage(place.path)
      made = await createTestRepository(storage, place.path)
    })
    after(async () => {
      await made.repository.close()
      await storage.close()
      place.remove()
    })

    const begin = () => made.repository.startPoint(startRequest({ sourceType: 'postgres' }))

    async function addWhole(session: PointSession, content: Buffer): Promise<void> {
      await session.add(folder)
      const stream = await session.addStream(file(content.length), 'pages')
      await stream.write(content)
      await stream.end()
    }

    async function whole(content: Buffer): Promise<Point> {
      const session = await begin()
      await addWhole(session, content)
      return session.commit({ ...SUMMARY, missed: [] })
    }

    async function patched(size: number, patches: [offset: number, bytes: Buffer][]): Promise<Point> {
      const session = await made.repository.startPoint(startRequest({ sourceType: 'postgres' }))
      try {
        await session.add(folder)
        const stream = await session.addPatched(file(size), await baseEntry(session))
        assert.ok(stream)
        for (const [offset, bytes] of patches) await stream.write(offset, bytes)
        await stream.end()
        return await session.commit({ ...SUMMARY, missed: [] })
      } catch (error) {
        await session.discard()
        throw error
      }
    }

    async function baseEntry(session: PointSession): Promise<Entry> {
      for await (const entry of session.base?.entries() ?? []) if (entry.path === 'table') return entry
      throw new Error('no base')
    }

    async function content(point: Point): Promise<Buffer> {
      const opened = await made.repository.openPoint(point.id, { signal: uninterrupted() })
      const pieces: Buffer[] = []
      for await (const piece of opened.stream((await opened.entry('table')) as Entry)) pieces.push(piece)
      await opened.close()
      return Buffer.concat(pieces)
    }

    it('is what it was with the changes laid over it, whatever its size becomes', async (t) => {
      const seed = chooseSeed()
      t.diagnostic(`seed ${seed}`)
      const below = seededNumbers(`patches ${seed}`)
      let expected = someBytes('first', 300 * BLOCK)
      await whole(expected)
      for (let round = 0; round < 12; round++) {
        const blocks = 1 + below(500)
        const next = Buffer.alloc(blocks * BLOCK)
        expected.copy(next, 0, 0, next.length)
        const patches: [number, Buffer][] = []
        for (let block = 0; block < blocks; block++) {
          if (below(10) > 1) continue
          const bytes = someBytes(`${round} ${block}`, BLOCK * Math.min(1 + below(20), blocks - block))
          patches.push([block * BLOCK, bytes])
          bytes.copy(next, block * BLOCK)
          block += bytes.length / BLOCK
        }
        const point = await patched(next.length, patches)
        assert.ok((await content(point)).equals(next), `round ${round}, ${blocks} blocks, ${patches.length} patches`)
        expected = next
      }
      await assertSound(made.repository)
    })

    it('is laid over groups that were compressed, wherever in them the chunks are', async () => {
      const blocks = (40 * PAGE_CHUNK_BYTES) / BLOCK
      const expected = Buffer.concat(Array.from({ length: blocks }, (_, n) => Buffer.alloc(BLOCK, `row ${n}, paid. `)))
      await whole(expected)
      const patches = [0, 2, 3, 9, 17, 25, 38, 39].map((chunk): [number, Buffer] => {
        return [chunk * PAGE_CHUNK_BYTES + 3 * BLOCK, someBytes(`compressed ${chunk}`, BLOCK)]
      })
      const point = await patched(expected.length, patches)
      for (const [offset, bytes] of patches) bytes.copy(expected, offset)
      assert.ok((await content(point)).equals(expected))
      await assertSound(made.repository)
    })

    it('costs what changes: chunks that no change touches are neither read nor stored', async () => {
      const first = someBytes('large', 200 * PAGE_CHUNK_BYTES)
      await whole(first)
      const block = someBytes('one block', BLOCK)
      const point = await patched(first.length, [[77 * PAGE_CHUNK_BYTES + BLOCK, block]])
      assert.equal(point.bytes.read, BLOCK)
      // The chunk, the list of chunks, and the listing's page.
      assert.ok(point.bytes.new < PAGE_CHUNK_BYTES + 20_000, `${point.bytes.new}`)
      block.copy(first, 77 * PAGE_CHUNK_BYTES + BLOCK)
      assert.ok((await content(point)).equals(first))
    })

    it('is refused where the old content is not in pages, and where changes go back or outside', async () => {
      const session = await made.repository.startPoint(startRequest({ sourceType: 'postgres' }))
      await session.add(folder)
      const stream = await session.addStream({ ...file(3 << 20), path: 'other' }, 'content')
      await stream.write(someBytes('content', 3 << 20))
      await stream.end()
      await session.commit({ ...SUMMARY, missed: [] })
      const next = await made.repository.startPoint(startRequest({ sourceType: 'postgres' }))
      for await (const entry of next.base?.entries() ?? [])
        if (entry.path === 'other') assert.equal(await next.addPatched(file(1), entry), null)
      await next.discard()

      await whole(someBytes('again', 10 * BLOCK))
      const bytes = Buffer.alloc(BLOCK)
      await assert.rejects(patched(10 * BLOCK, [[10 * BLOCK, bytes]]), { code: 'source-unavailable' })
      const backwards: [number, Buffer][] = [
        [5 * BLOCK, bytes],
        [4 * BLOCK, bytes],
      ]
      await assert.rejects(patched(10 * BLOCK, backwards), { code: 'source-unavailable' })
    })

    it('is laid over another copy of the old bytes where the first one is damaged', async () => {
      const before = new Set<string>()
      for await (const { name: pack } of storage.list('packs/')) before.add(pack)
      const expected = someBytes('in two copies', 20 * PAGE_CHUNK_BYTES)
      // Both at once: neither finds what the other stores.
      const sessions = [await begin(), await begin()]
      for (const session of sessions) await addWhole(session, expected)
      for (const session of sessions) await session.commit({ ...SUMMARY, missed: [] })
      const copies: string[] = []
      for await (const { name: pack, size } of storage.list('packs/'))
        if (!before.has(pack) && size > 100_000) copies.push(pack)
      assert.ok(copies.length >= 2)
      for (const [number, pack] of copies.entries()) {
        const sound = await storage.get(pack)
        const hurt = Buffer.from(sound)
        for (let at = 200; at < hurt.length; at += 4096) hurt[at]! ^= 1
        await storage.put(pack, hurt)
        const patch = someBytes(`patch ${number}`, BLOCK)
        const patches = [1, 3, 12].map((chunk): [number, Buffer] => [(chunk + number) * PAGE_CHUNK_BYTES, patch])
        const point = await patched(expected.length, patches)
        for (const [offset, bytes] of patches) bytes.copy(expected, offset)
        assert.ok((await content(point)).equals(expected), `copy ${number} damaged`)
        await storage.put(pack, sound)
      }
    })

    it('fails by name when the old bytes are damaged, and nothing of it is visible', async () => {
      const before = new Set<string>()
      for await (const { name: pack } of storage.list('packs/')) before.add(pack)
      await whole(someBytes('to be hurt', 40 * PAGE_CHUNK_BYTES))
      const points = (await made.repository.points()).length
      const sound = new Map<string, Buffer>()
      for await (const { name: pack, size } of storage.list('packs/'))
        if (!before.has(pack) && size > 100_000) sound.set(pack, await storage.get(pack))
      for (const [pack, bytes] of sound) {
        const hurt = Buffer.from(bytes)
        for (let at = 200; at < hurt.length; at += 4096) hurt[at]! ^= 1
        await storage.put(pack, hurt)
      }
      await assert.rejects(patched(40 * PAGE_CHUNK_BYTES, [[BLOCK, Buffer.alloc(BLOCK)]]), {
        code: 'repository-damaged',
      })
      assert.equal((await made.repository.points()).length, points)
      for (const [pack, bytes] of sound) await storage.put(pack, bytes)
    })
  })
