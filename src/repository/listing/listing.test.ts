import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { RegainError } from '../../errors.ts'
import { comparePaths, type Entry } from '../../model.ts'
import { chunkId, deriveDomainKeys } from '../format/domain-keys.ts'
import { MAX_PAGE_BYTES } from '../format/listing-page.ts'
import { chunkIds, findEntry, readListing } from './listing-reader.ts'
import { ListingWriter } from './listing-writer.ts'

const KEYS = deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 1)

describe('a listing', () => {
  it('gives its entries back in order, over pages of several levels', async () => {
    const entries = Array.from({ length: 30_000 }, (_, i) =>
      entry(`folder-${pad(i >> 6)}/${pad(i)}${'x'.repeat(i % 200)}`),
    )
    const store = pages()
    const root = await write(entries, store)
    assert.deepEqual(await all(store, root), entries)
    assert.ok(store.levels().has(1), 'leaves alone')
    assert.ok([...store.bytes.values()].every((page) => page.length <= MAX_PAGE_BYTES))
  })

  it('is the same when pages are asked for ahead, of which no more wait than may', async () => {
    const entries = Array.from({ length: 30_000 }, (_, i) => entry(`${pad(i >> 6)}/${pad(i)}`))
    const store = pages()
    const root = await write(entries, store)
    let [waiting, peak] = [0, 0]
    const read = async (id: Uint8Array) => {
      peak = Math.max(peak, ++waiting)
      await new Promise((resolve) => setImmediate(resolve))
      waiting--
      return store.read(id)
    }
    assert.deepEqual(await Array.fromAsync(readListing(read, root, 3)), entries)
    // The page whose turn it is, and three more.
    assert.equal(peak, 4)
    for await (const first of readListing(read, root, 3)) {
      assert.deepEqual(first, entries[0])
      break
    }
    assert.equal(waiting, 0, 'somebody waits for what nobody wants')
  })

  it('reads no page of which nothing is wanted', async () => {
    const entries = Array.from({ length: 30_000 }, (_, i) => entry(`${pad(i >> 6)}/${pad(i)}`))
    const store = pages()
    const root = await write(entries, store)
    for (const wanted of [0, 7000, 17_777, 29_999].map((i) => (entries[i] as Entry).path)) {
      let reads = 0
      const read = (id: Uint8Array) => {
        reads++
        return store.read(id)
      }
      const wants = (first: string, next: string | null) =>
        comparePaths(first, wanted) <= 0 && (next === null || comparePaths(wanted, next) < 0)
      const given = (await Array.fromAsync(readListing(read, root, 3, { wants }))).map(({ path }) => path)
      assert.ok(given.includes(wanted))
      assert.ok(reads < 5, `${reads} pages read`)
    }
  })

  it('leaves files out, but nothing that only looks like one', async () => {
    const folder = entry('a","type":"file","')
    const others: Entry[] = [
      { ...folder, type: 'directory', xattrs: { a: '', type: 'file', z: '' } },
      { ...entry('b'), hardLink: 'a\u2028b', owner: '\u2028' },
      { ...entry('c'), owner: '\u2028', hardLink: 'a' },
      { ...entry('d\\'), type: 'symlink', target: '","type":"file","x":"' },
    ]
    const store = pages()
    const root = await write([...others, entry('e'), entry('f"\\"'), entry('g\u2028')], store)
    assert.deepEqual(await Array.fromAsync(readListing(store.read, root, 0, { withoutFiles: true })), others)
  })

  it('gives what comes before a page that is lost, asked for ahead or not', async () => {
    const entries = Array.from({ length: 30_000 }, (_, i) => entry(`${pad(i >> 6)}/${pad(i)}`))
    const store = pages()
    const root = await write(entries, store)
    const lost = [...store.bytes.keys()].filter((id) => id !== root)[5]
    const read = async (id: Uint8Array) => {
      if (Buffer.from(id).toString('hex') === lost) throw new RegainError('repository-damaged', 'lost')
      return store.read(id)
    }
    const given = async (ahead: number) => {
      let count = 0
      const walk = async () => {
        for await (const _ of readListing(read, root, ahead)) count++
      }
      await assert.rejects(walk(), { code: 'repository-damaged' })
      return count
    }
    const before = await given(0)
    assert.ok(before > 0)
    assert.equal(await given(8), before)
  })

  it('has more than two levels when paths are long', async () => {
    // Entries that fill a leaf each, under paths of which an inner page holds few.
    const entries = Array.from({ length: 700 }, (_, i) => ({
      ...entry(`${'d'.repeat(3900)}/${pad(i)}`),
      xattrs: { 'user.filler': 'A'.repeat(520_000) },
    }))
    const store = pages()
    const root = await write(entries, store)
    assert.ok(store.levels().has(2), [...store.levels()].join())
    const found = await all(store, root)
    assert.equal(found.length, 700)
    assert.deepEqual(
      found.map(({ path }) => path),
      entries.map(({ path }) => path),
    )
    assert.equal((await findEntry(store.read, root, entries[345]!.path))?.path, entries[345]!.path)
  })

  it('is the same whatever the order in which an unordered source hands entries over', async () => {
    const paths = fc.uniqueArray(fc.string({ unit: fc.constantFrom('a', 'b', '-', '/', 'é', '\udc80'), minLength: 1 }))
    await fc.assert(
      fc.asyncProperty(paths, fc.nat(), async (names, turn) => {
        const sorted = names.map((name) => entry(name)).sort((a, b) => comparePaths(a.path, b.path))
        const shuffled = [...sorted.slice(turn % (sorted.length + 1)), ...sorted.slice(0, turn % (sorted.length + 1))]
        const store = pages()
        assert.equal(await write(shuffled, store, true), await write(sorted, store))
        assert.deepEqual(await all(store, await write(sorted, store)), sorted)
      }),
      { numRuns: 60 },
    )
  })

  it('finds each entry, and none that is not there', async () => {
    const entries = Array.from({ length: 12_000 }, (_, i) => entry(`${pad(i * 2)}-${'long '.repeat(i % 40)}`))
    const store = pages()
    const root = await write(entries, store)
    for (let i = 0; i < entries.length; i += 101)
      assert.deepEqual(await findEntry(store.read, root, entries[i]!.path), entries[i])
    for (const path of ['', '0', `${pad(7)}-`, 'zzz', `${pad(24_000)}-`, entries[0]!.path.slice(0, -1)])
      assert.equal(await findEntry(store.read, root, path), null, path)
  })

  it('gives an unchanged region the same pages again', async () => {
    const entries = Array.from({ length: 20_000 }, (_, i) => entry(`tree/${pad(i)}`))
    const store = pages()
    await write(entries, store)
    const before = new Set(store.bytes.keys())
    const changed = entries.map((one, i) => (i === 9_000 ? { ...one, mtime: '9' } : one))
    const added = [...changed.slice(0, 15_000), entry(`tree/${pad(14_999)}-new`), ...changed.slice(15_000)]
    await write(added, store)
    const fresh = [...store.bytes.keys()].filter((page) => !before.has(page))
    assert.ok(before.size > 20, `${before.size} pages`)
    // One leaf for each of the two changes, perhaps a neighbour whose bounds moved, and what is above them.
    assert.ok(fresh.length <= 5, `${fresh.length} of ${before.size} pages`)
  })

  it('is one page when it is empty', async () => {
    const store = pages()
    const root = await write([], store)
    assert.equal(store.bytes.size, 1)
    assert.deepEqual(await all(store, root), [])
    assert.equal(await findEntry(store.read, root, 'a'), null)
  })

  it('refuses entries out of order and twice, in both ways of taking them', async () => {
    for (const [first, second] of [
      ['b', 'a'],
      ['a', 'a'],
      ['a-b', 'a/b'],
    ] as const) {
      await assert.rejects(async () => write([entry(first), entry(second)], pages()), /out of order/)
    }
    await assert.rejects(write([entry('a'), entry('b'), entry('a')], pages(), true), /out of order/)
  })

  it('fails in the end when a page could not be stored, and leaves no rejection unheard', async () => {
    const entries = Array.from({ length: 20_000 }, (_, i) => entry(`tree/${pad(i)}`))
    const failing = { store: async () => Promise.reject(new RegainError('storage-full', 'No space is left.')) }
    const writer = new ListingWriter(KEYS, { unordered: false, ...failing })
    for (const one of entries) writer.add(one)
    await new Promise((resolve) => setImmediate(resolve))
    await assert.rejects(writer.finish(), { code: 'storage-full' })
  })

  it('says so when a page or a chunk list is not what it should be', async () => {
    const root = 'ab'.repeat(32)
    const reading = (text: string) => all({ read: async () => Buffer.from(text) }, root)
    for (const text of ['', 'no json\n', '{"level":0}\nno json\n'])
      await assert.rejects(reading(text), { code: 'repository-damaged' }, text)
    const cut = { ...entry('f'), chunks: Buffer.alloc(33).toString('base64') }
    await assert.rejects(Array.fromAsync(chunkIds(async () => Buffer.alloc(0), cut)), { code: 'repository-damaged' })
  })
})

function entry(path: string): Entry {
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: '1700000000000000000', size: 0 }
}

function pad(number: number): string {
  return String(number).padStart(8, '0')
}

interface Pages {
  bytes: Map<string, Buffer>
  read(id: Uint8Array): Promise<Buffer>
  levels(): Set<number>
}

function pages(): Pages {
  const bytes = new Map<string, Buffer>()
  return {
    bytes,
    read: async (id) => bytes.get(Buffer.from(id).toString('hex'))!,
    levels: () => new Set([...bytes.values()].map((page) => JSON.parse(page.toString('utf8').split('\n')[0]!).level)),
  }
}

async function write(entries: readonly Entry[], { bytes }: Pages, unordered = false): Promise<string> {
  const writer = new ListingWriter(KEYS, {
    unordered,
    store: async (page) => {
      const id = chunkId(KEYS, page).toString('hex')
      bytes.set(id, page)
      return id
    },
  })
  for (const one of entries) writer.add(one)
  assert.equal(writer.entries, entries.length)
  return writer.finish()
}

function all(store: Pick<Pages, 'read'>, root: string): Promise<Entry[]> {
  return Array.fromAsync(readListing(store.read, root))
}
