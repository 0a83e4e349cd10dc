import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import {
  assertSound,
  createTestRepository,
  restore,
  someBytes,
  startRequest,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
} from '../../../test/support/repository.ts'
import type { Entry } from '../../model.ts'
import { openMemoryStorage } from '../../storage/memory.ts'
import type { PointSession, StartPoint } from '../api.ts'
import { DUMP_CHUNKS, FILE_CHUNKS, PAGE_CHUNK_BYTES } from './chunker.ts'

const SUMMARY = { kind: 'full', root: '/', positions: {}, sourceBytes: 0, missed: [] } as const

describe('content that arrives as streams', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let made: TestRepository

  before(async () => {
    folder = temporaryFolder()
    made = await createTestRepository(openMemoryStorage(), folder.path)
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  const start = (options: Partial<StartPoint> = {}) => made.repository.startPoint(startRequest(options))

  async function written(contents: Record<string, Buffer>, options: Partial<StartPoint> & { pieces?: number }) {
    const session = await start(options)
    for (const [path, bytes] of Object.entries(contents))
      await stream(session, file(path, bytes.length), bytes, 'pages', options.pieces ?? 65_536)
    return session.commit({ ...SUMMARY, missed: [] })
  }

  it('keeps pages and content of every size, whatever the pieces it comes in', async () => {
    const sizes = [0, 1, 8192, PAGE_CHUNK_BYTES - 1, PAGE_CHUNK_BYTES, PAGE_CHUNK_BYTES + 1, 4 << 20, (9 << 20) + 77]
    for (const chunking of ['pages', 'content', 'dump'] as const)
      for (const pieces of [1000, 8192, 5 << 20]) {
        const session = await start({ source: `${chunking}-${pieces}` })
        await session.add({ ...file('', 0), type: 'directory', mode: 0o755 })
        for (const size of sizes)
          await stream(session, file(name(size), size), someBytes(`s${size}`, size), chunking, pieces)
        const point = await session.commit({ ...SUMMARY, missed: [] })
        const { tree, missed } = await restore(made.repository, point.id)
        assert.deepEqual(missed, [])
        for (const size of sizes) assert.match(tree.get(name(size))!, digest(someBytes(`s${size}`, size)))
      }
  })

  it('cuts pages at multiples of the page chunk, so that a page changed in place costs one chunk', async () => {
    // The first file leaves the shared buffer at an odd place.
    const contents = { a: someBytes('odd', 5000), b: someBytes('table', 80 * PAGE_CHUNK_BYTES + 8192) }
    await written(contents, { source: 'pages', pieces: 30_011 })
    const changed = Buffer.from(contents.b)
    changed[40 * PAGE_CHUNK_BYTES + 9] = (changed[40 * PAGE_CHUNK_BYTES + 9] as number) ^ 1
    const point = await written({ a: someBytes('other', 4999), b: changed }, { source: 'pages', pieces: 7001 })
    assert.ok(point.bytes.new < PAGE_CHUNK_BYTES + 4999 + 64 * 1024, `${point.bytes.new} new bytes`)
    const open = await made.repository.openPoint(point.id, { signal: uninterrupted() })
    assert.equal((await open.readFile('b')).equals(changed), true)
    await open.close()
  })

  it('cuts content where the content says, wherever buffers end: what an insertion moves is found again', async () => {
    // Of blocks that do not repeat: in data with a period, boundaries may stay out of step for ever.
    const text = Buffer.concat(Array.from({ length: 24 }, (_, i) => someBytes(`dump ${i}`, 1 << 20)))
    const dump = async (insertion: Buffer, before: Buffer, pieces: number) => {
      const session = await start({ source: 'dump' })
      // Shares the first buffer, and moves all boundaries of buffers.
      await stream(session, file('before', before.length), before, 'content', pieces)
      const bytes = Buffer.concat([text.subarray(0, 9 << 20), insertion, text.subarray(9 << 20)])
      await stream(session, file('dump', bytes.length), bytes, 'content', pieces)
      const point = await session.commit({ ...SUMMARY, missed: [] })
      assert.match((await restore(made.repository, point.id)).tree.get('dump')!, digest(bytes))
      return point
    }
    await dump(Buffer.alloc(0), Buffer.alloc(0), 65_536)
    const moved = await dump(Buffer.from('a new row'), someBytes('before', 3 << 20), 70_001)
    const limit = (3 << 20) + 2 * FILE_CHUNKS.maxBytes
    assert.ok(moved.bytes.new < limit, `${moved.bytes.new} new bytes`)
  })

  it('takes streams of unknown size side by side, each cut as if it were alone', async () => {
    const sizes = [0, 1, 700_000, (9 << 20) + 77, 5 << 20]
    const bytesOf = (size: number) => someBytes(`side ${size}`, size)
    const alone = await start({ source: 'side' })
    for (const size of sizes.toSorted((a, b) => a - b))
      await stream(alone, withoutSize(name(size)), bytesOf(size), 'dump', 50_000)
    await alone.commit({ ...SUMMARY, missed: [] })

    const session = await start({ source: 'side' })
    const open = []
    for (const size of sizes.toSorted((a, b) => a - b))
      open.push({ size, content: await session.addStream(withoutSize(name(size)), 'dump') })
    await Promise.all(
      open.map(async ({ size, content }) => {
        const bytes = bytesOf(size)
        const piece = 30_000 + (size % 1000)
        for (let at = 0; at < size; at += piece) await content.write(bytes.subarray(at, at + piece))
        await content.end()
      }),
    )
    const point = await session.commit({ ...SUMMARY, missed: [] })
    const { tree, missed } = await restore(made.repository, point.id)
    assert.deepEqual(missed, [])
    for (const size of sizes) assert.match(tree.get(name(size))!, digest(bytesOf(size)))
    // Of data, nothing: only the listing's page may differ.
    assert.ok(point.bytes.new < 32 * 1024, `${point.bytes.new} new bytes`)
  })

  it('stores of a dump little more than what an insertion touches', async () => {
    const text = Buffer.concat(Array.from({ length: 8 }, (_, i) => someBytes(`rows ${i}`, 1 << 20)))
    for (const insertion of ['', 'a new row']) {
      const bytes = Buffer.concat([text.subarray(0, 3 << 20), Buffer.from(insertion), text.subarray(3 << 20)])
      const session = await start({ source: 'rows' })
      await stream(session, withoutSize('dump'), bytes, 'dump', 65_536)
      const point = await session.commit({ ...SUMMARY, missed: [] })
      if (insertion !== '') assert.ok(point.bytes.new < 3 * DUMP_CHUNKS.maxBytes, `${point.bytes.new} new bytes`)
    }
  })

  it('refuses pages of unknown size', async () => {
    const session = await start({ source: 'unknown' })
    await assert.rejects(session.addStream(withoutSize('f'), 'pages'), /unknown size/)
    await session.discard()
  })

  it('takes more than 256 chunks into lists, and reuses them by reference', async () => {
    const big = someBytes('big', 300 * PAGE_CHUNK_BYTES)
    const first = await written({ big }, { source: 'lists' })
    const session = await start({ source: 'lists' })
    const entries: Entry[] = []
    for await (const entry of session.base!.entries()) entries.push(entry)
    assert.equal(entries[0]!.chunks, undefined)
    assert.equal(Buffer.from(entries[0]!.chunkLists!, 'base64').length, 32)
    assert.equal(await session.addUnchanged(file('big', big.length), entries[0]!), true)
    const second = await session.commit({ ...SUMMARY, missed: [] })
    assert.equal(second.bytes.new, 0)
    for (const { id } of [first, second])
      assert.match((await restore(made.repository, id)).tree.get('big')!, digest(big))
  })

  it('takes 5,000 tiny streams in any order', async () => {
    const session = await start({ source: 'tiny', unordered: true })
    for (let i = 4999; i >= 0; i--)
      await stream(session, file(`t/${i}`, i % 300), tiny(i), i % 2 ? 'pages' : 'content', 8192)
    await session.add({ ...file('t', 0), type: 'directory', mode: 0o755 })
    const point = await session.commit({ ...SUMMARY, missed: [] })
    assert.equal(point.entries, 5001)
    const { tree } = await restore(made.repository, point.id)
    for (let i = 0; i < 5000; i++) assert.match(tree.get(`t/${i}`)!, digest(tiny(i)))
  })

  it('does not wait for ever for a buffer that many empty files do not fill', async () => {
    const session = await start({ source: 'waiting', unordered: true })
    await stream(session, file('first', 5), Buffer.from('first'), 'content', 5)
    for (let i = 0; i < 21_000; i++) await session.add(file(`empty-${i}`, 0))
    await stream(session, file('last', 4), Buffer.from('last'), 'content', 5)
    const point = await session.commit({ ...SUMMARY, missed: [] })
    assert.equal(point.entries, 21_002)
    const open = await made.repository.openPoint(point.id, { signal: uninterrupted() })
    assert.equal((await open.readFile('first')).toString(), 'first')
    assert.equal((await open.readFile('last')).toString(), 'last')
    await open.close()
  })

  for (const [size, bytes] of [
    [10, 9],
    [10, 11],
    [0, 1],
    [PAGE_CHUNK_BYTES, PAGE_CHUNK_BYTES + 1],
  ] as const)
    for (const chunking of ['pages', 'content'] as const)
      it(`fails for good when ${bytes} bytes of ${chunking} come where ${size} were announced`, async () => {
        const session = await start({ source: 'mismatch' })
        const wrong = stream(session, file('f', size), Buffer.alloc(bytes, 7), chunking, 4)
        await assert.rejects(wrong, { code: 'source-unavailable' })
        await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), { code: 'source-unavailable' })
        await session.discard()
        assert.deepEqual(await made.repository.points({ source: 'mismatch' }), [])
      })

  it('refuses to commit while a stream is open', async () => {
    const session = await start({ source: 'open' })
    const open = await session.addStream(file('f', 10), 'pages')
    await open.write(Buffer.alloc(4))
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), /stream/)
    await session.discard()
    assert.deepEqual(await made.repository.points({ source: 'open' }), [])
  })

  it('refuses entries out of order, and the same path twice', async () => {
    const session = await start({ source: 'order' })
    await session.add(file('b', 0))
    await assert.rejects(session.add(file('a', 0)), /out of order/)
    await assert.rejects(session.commit({ ...SUMMARY, missed: [] }), /out of order/)
    await session.discard()
    const twice = await start({ source: 'order', unordered: true })
    await twice.add(file('a', 0))
    await twice.add(file('a', 0))
    await assert.rejects(twice.commit({ ...SUMMARY, missed: [] }), /out of order/)
    await twice.discard()
  })

  it('commits a point of nothing at all, and is sound in the end', async () => {
    const session = await start({ source: 'nothing' })
    const point = await session.commit({ ...SUMMARY, missed: [] })
    assert.equal(point.entries, 0)
    assert.equal((await restore(made.repository, point.id)).tree.size, 1)
    await assertSound(made.repository)
  })

  it('writes the largest chunks that content can have', async () => {
    const zeros = Buffer.alloc(3 * FILE_CHUNKS.maxBytes)
    const session = await start({ source: 'zeros' })
    await stream(session, file('zeros', zeros.length), zeros, 'content', 1 << 20)
    const point = await session.commit({ ...SUMMARY, missed: [] })
    assert.match((await restore(made.repository, point.id)).tree.get('zeros')!, digest(zeros))
  })
})

function file(path: string, size: number): Entry {
  return { path, type: 'file', mode: 0o600, uid: process.getuid!(), gid: process.getgid!(), mtime: '1', size }
}

function withoutSize(path: string): Entry {
  const { size: _, ...rest } = file(path, 0)
  return rest
}

/** Sorts by size. */
function name(size: number): string {
  return String(size).padStart(9, '0')
}

function tiny(i: number): Buffer {
  return Buffer.alloc(i % 300, i)
}

function digest(bytes: Buffer): RegExp {
  return new RegExp(` ${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex')}$`)
}

async function stream(
  session: PointSession,
  entry: Entry,
  bytes: Buffer,
  chunking: 'pages' | 'content' | 'dump',
  piece: number,
): Promise<void> {
  const content = await session.addStream(entry, chunking)
  const reused = Buffer.alloc(piece)
  for (let at = 0; at < bytes.length; at += piece) {
    const length = bytes.copy(reused, 0, at, at + piece)
    await content.write(reused.subarray(0, length))
    // The caller may reuse its buffer after the promise settles.
    reused.fill(0xff)
  }
  await content.end()
}
