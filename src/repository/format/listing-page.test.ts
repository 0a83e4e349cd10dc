import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../../errors.ts'
import { bytesToPath, pathToBytes } from '../../filesystem/names.ts'
import { comparePaths, type Entry } from '../../model.ts'
import { findEntry, readListing } from '../listing/listing-reader.ts'
import { ListingWriter } from '../listing/listing-writer.ts'
import { chunkId, deriveDomainKeys } from './domain-keys.ts'
import { decodePage, MAX_PAGE_BYTES, PageCutter, pageHead } from './listing-page.ts'

const keys = deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 1)

class Chunks {
  readonly stored = new Map<string, Buffer>()

  store = async (bytes: Buffer): Promise<string> => {
    const id = chunkId(keys, bytes).toString('hex')
    this.stored.set(id, bytes)
    return id
  }

  read = async (id: Uint8Array): Promise<Buffer> => this.stored.get(Buffer.from(id).toString('hex'))!
}

function entryOf(path: string): Entry {
  return { path, type: 'file', mode: 0o644, uid: 1, gid: 1, mtime: '1' }
}

async function write(chunks: Chunks, paths: string[], unordered: boolean): Promise<string> {
  const writer = new ListingWriter(keys, { unordered, store: chunks.store })
  for (const path of paths) writer.add(entryOf(path))
  return writer.finish()
}

async function pathsOf(chunks: Chunks, root: string): Promise<string[]> {
  const paths: string[] = []
  for await (const entry of readListing(chunks.read, root)) paths.push(entry.path)
  return paths
}

/** Components of any bytes that a name can have. */
const component = fc
  .uint8Array({ minLength: 1, maxLength: 6 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))))
const anyPath = fc
  .array(component, { minLength: 1, maxLength: 3 })
  .map((parts) => bytesToPath(Buffer.concat(parts.flatMap((part, i) => (i === 0 ? [part] : [Buffer.from('/'), part])))))

test('a listing gives every path back, of whatever bytes, in the order of comparePaths', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(anyPath, { maxLength: 60 }), async (paths) => {
      const chunks = new Chunks()
      const root = await write(chunks, paths, true)
      const sorted = [...paths].sort(comparePaths)
      assert.deepEqual(await pathsOf(chunks, root), sorted)
      for (const path of paths) {
        assert.equal((await findEntry(chunks.read, root, path))?.path, path)
        assert.deepEqual(bytesToPath(pathToBytes(path)), path)
      }
    }),
    { numRuns: 50 },
  )
})

test('the listing of an unchanged region is the same pages', async () => {
  const paths = Array.from({ length: 40_000 }, (_, i) => `folder/${String(i).padStart(6, '0')}`)
  const before = new Chunks()
  await write(before, paths, false)
  const after = new Chunks()
  await write(after, [...paths.slice(0, 20_000), 'folder/019999-new', ...paths.slice(20_000)], false)
  const changed = [...after.stored.keys()].filter((id) => !before.stored.has(id))
  assert.ok(before.stored.size > 20, `${before.stored.size} pages`)
  assert.ok(changed.length <= 4, `${changed.length} pages changed`)
})

test('pages are bounded, and a listing of any length has one root', async () => {
  const chunks = new Chunks()
  const paths = Array.from({ length: 30_000 }, (_, i) => `f${String(i).padStart(6, '0')}${'n'.repeat(150)}`)
  const root = await write(chunks, paths, false)
  for (const page of chunks.stored.values()) assert.ok(page.length <= MAX_PAGE_BYTES)
  assert.deepEqual(await pathsOf(chunks, root), paths)
})

test('where a page ends depends on its records and the key alone', () => {
  const one = new PageCutter(keys)
  const other = new PageCutter(deriveDomainKeys(Buffer.alloc(32, 3), Buffer.alloc(16, 2), 1))
  const ends = (cutter: PageCutter) =>
    Array.from({ length: 20_000 }, (_, i) => `path/${i}`).filter((path) => cutter.endsAfter(path, 100_000))
  assert.deepEqual(ends(one), ends(new PageCutter(keys)))
  assert.notDeepEqual(ends(one), ends(other))
  assert.ok(ends(one).length > 10 && ends(one).length < 100, `${ends(one).length} of 20,000`)
})

test('an empty listing is a page without entries', async () => {
  const chunks = new Chunks()
  const root = await write(chunks, [], false)
  assert.equal(chunks.stored.get(root)?.toString(), pageHead(0))
  assert.deepEqual(await pathsOf(chunks, root), [])
})

test('bytes that are no page are refused', () => {
  for (const text of ['', '\n', '{', '{"level":0}\n{\n', '{"level":0}\n{"path":\n'])
    assert.throws(
      () => decodePage(Buffer.from(text)),
      (error) => isRegainError(error, 'repository-damaged'),
      JSON.stringify(text),
    )
})
