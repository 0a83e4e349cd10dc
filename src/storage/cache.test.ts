import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { withCache } from './cache.ts'
import type { ObjectCache } from './contract.ts'
import { openMemoryStorage } from './memory.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-cache-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const NAME = `index/${'ab'.repeat(32)}`
const hash = (text: string) => createHash('sha256').update(text).digest('hex')
const packNamed = (text: string) => `packs/${hash(text).slice(0, 2)}/${hash(text)}`

function fresh(options: { directory?: string; limitBytes?: number; description?: string } = {}) {
  const directory = options.directory ?? join(mkdtempSync(join(scratch, 'state-')), 'state/cache')
  const lines: string[] = []
  let nowMs = Date.UTC(2026, 0, 1)
  const ambient = { now: () => (nowMs += 1000), randomBytes, log: (_: string, line: string) => void lines.push(line) }
  const inner = { ...openMemoryStorage(), description: options.description ?? 'memory' }
  const { limitBytes } = options
  const storage = withCache(inner, { directory, ambient, ...(limitBytes === undefined ? {} : { limitBytes }) })
  const sleepMs = (ms: number) => {
    nowMs += ms
  }
  return { storage, cache: storage.cache as ObjectCache, inner, directory, lines, sleepMs }
}

describe('copies on this machine', () => {
  test('are given back as they were kept, by object and part, to every process', async () => {
    const { cache, directory, lines } = fresh()
    assert.equal(await cache.get(NAME, ''), null)
    await cache.keep(NAME, '', Buffer.from('whole'))
    await cache.keep(NAME, 'frames-0-1', [Buffer.from('pa'), Buffer.from('rt')])
    for (const one of [cache, fresh({ directory }).cache]) {
      assert.equal(String(await one.get(NAME, '')), 'whole')
      assert.equal(String(await one.get(NAME, 'frames-0-1')), 'part')
    }
    await cache.keep(NAME, '', Buffer.from('again'))
    assert.equal(String(await cache.get(NAME, '')), 'again')
    await cache.drop(NAME, '')
    await cache.drop(NAME, '')
    assert.equal(await cache.get(NAME, ''), null)
    assert.deepEqual(lines, [])
  })

  test('of one store are not shown to another', async () => {
    const { cache, directory } = fresh()
    await cache.keep(NAME, '', Buffer.from('of one'))
    assert.equal(await fresh({ directory, description: 'another' }).cache.get(NAME, ''), null)
  })

  test('are for their owner alone', async () => {
    const { cache, directory } = fresh()
    await cache.keep(NAME, '', Buffer.from('x'))
    assert.equal(statSync(directory).mode & 0o777, 0o700)
    for (const file of readdirSync(directory)) assert.equal(statSync(join(directory, file)).mode & 0o777, 0o600)
  })

  test('may be kept of nothing that can change or tell something by being gone', async () => {
    const { cache } = fresh()
    for (const name of [
      'ends/0123',
      'sessions/0123',
      'pins/01',
      'generations/0000000000000001',
      'repository.json',
      'index/x',
    ])
      await assert.rejects(cache.keep(name, '', Buffer.from('x')), /no copy/)
  })

  test("answer none of the store's own calls", async () => {
    const { storage, cache, inner } = fresh()
    await storage.put(NAME, Buffer.from('stored'))
    await cache.keep(NAME, '', Buffer.from('copied'))
    assert.equal(String(await storage.get(NAME)), 'stored')
    inner.objects.delete(NAME)
    assert.equal(await storage.size(NAME), null)
    await assert.rejects(storage.get(NAME), { code: 'storage-not-found' })
  })

  test('of what is deleted go, and no others', async () => {
    const { storage, cache } = fresh()
    const [one, other] = [packNamed('one'), packNamed('other')]
    for (const name of [one, other])
      for (const part of ['frames-0-1', 'frames-7-9']) await cache.keep(name, part, Buffer.from(name))
    await storage.delete(one)
    await storage.delete('ends/0123')
    await storage.close()
    assert.equal(await cache.get(one, 'frames-0-1'), null)
    assert.equal(await cache.get(one, 'frames-7-9'), null)
    assert.equal(String(await cache.get(other, 'frames-7-9')), other)
  })

  test('take no more room than they may: those not used for longest go first', async () => {
    const limitBytes = 4 * 1024 * 1024
    const { cache, directory, lines } = fresh({ limitBytes })
    const bytes = randomBytes(100_000)
    await cache.keep(packNamed('first'), 'a', bytes)
    await cache.keep(packNamed('unused'), 'a', bytes)
    for (let i = 0; i < 100; i++) {
      assert.ok(await cache.get(packNamed('first'), 'a'), `used ${i}`)
      await cache.keep(packNamed(`more ${i}`), 'a', bytes)
      const total = readdirSync(directory).reduce((sum, file) => sum + statSync(join(directory, file)).blocks * 512, 0)
      assert.ok(total <= limitBytes, `${total} bytes after ${i}`)
    }
    assert.equal(await cache.get(packNamed('unused'), 'a'), null)
    assert.ok(await cache.get(packNamed('more 99'), 'a'))
    await cache.keep(packNamed('large'), 'a', randomBytes(limitBytes / 2))
    assert.equal(await cache.get(packNamed('large'), 'a'), null)
    assert.deepEqual(lines, [])
  })

  test('that a crash left half written are never given, and are swept up in time', async () => {
    const { cache, directory, sleepMs } = fresh()
    mkdirSync(directory, { recursive: true })
    const leftOver = `+${'0'.repeat(32)}`
    writeFileSync(join(directory, leftOver), 'half')
    writeFileSync(join(directory, 'of somebody else'), 'x')
    sleepMs(Date.now() + 7_200_000)
    await cache.keep(NAME, '', Buffer.from('x'))
    const files = readdirSync(directory)
    assert.ok(!files.includes(leftOver))
    assert.ok(files.includes('of somebody else'))
  })

  test('can go at any moment', async () => {
    const { cache, directory, lines } = fresh()
    await cache.keep(NAME, '', Buffer.from('x'))
    rmSync(directory, { recursive: true })
    assert.equal(await cache.get(NAME, ''), null)
    await cache.keep(NAME, '', Buffer.from('y'))
    assert.equal(String(await cache.get(NAME, '')), 'y')
    assert.deepEqual(lines, [])
  })

  for (const [what, spoil] of [
    ['where a file is in the way', (directory: string) => writeFileSync(directory, '')],
    ['where a link leads nowhere', (directory: string) => symlinkSync('/nonexistent/place', directory)],
    // As root every mode is open to us, but /proc takes files from nobody.
    ['where nothing can be written', (directory: string) => symlinkSync('/proc/self', directory)],
  ] as const)
    test(`${what} there are none, which is said once`, async () => {
      const parent = mkdtempSync(join(scratch, 'spoilt-'))
      const directory = join(parent, 'cache')
      spoil(directory)
      const { cache, storage, lines } = fresh({ directory })
      for (let i = 0; i < 3; i++) {
        await cache.keep(NAME, '', Buffer.from('x'))
        assert.equal(await cache.get(NAME, ''), null)
        await cache.drop(NAME, '')
      }
      await storage.delete(NAME)
      await storage.close()
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0]!, /Nothing is lost/)
    })

  test('that are huge, a folder or a pipe are not there', async () => {
    const makeHuge = (path: string) => {
      writeFileSync(path, '')
      truncateSync(path, 2 ** 40)
    }
    const makers = [(path: string) => mkdirSync(path), (path: string) => execFileSync('mkfifo', [path])]
    for (const make of [...makers, makeHuge]) {
      const { cache, directory } = fresh()
      await cache.keep(NAME, '', Buffer.from('x'))
      const path = join(directory, readdirSync(directory)[0]!)
      rmSync(path)
      make(path)
      assert.equal(await cache.get(NAME, ''), null)
    }
  })

  test('are whole or absent while several processes keep, drop and evict them', async () => {
    const { cache, directory, lines } = fresh({ limitBytes: 1024 * 1024 })
    const program = `
      import { randomBytes } from 'node:crypto'
      import { withCache } from ${JSON.stringify(join(import.meta.dirname, 'cache.ts'))}
      import { openMemoryStorage } from ${JSON.stringify(join(import.meta.dirname, 'memory.ts'))}
      const ambient = { now: Date.now, randomBytes, log: (_, line) => console.log(line) }
      const { cache } = withCache(openMemoryStorage(), { directory: ${JSON.stringify(directory)}, limitBytes: 1024 * 1024, ambient })
      for (let i = 0; i < 300; i++) {
        const name = 'index/' + (i % 40).toString(16).padStart(64, '0')
        const copy = await cache.get(name, '')
        if (copy && !(copy.length === 50_000 && copy.every((byte) => byte === i % 40))) console.log('torn', i)
        if (i % 7 === 0) await cache.drop(name, '')
        else await cache.keep(name, '', Buffer.alloc(50_000, i % 40))
      }
    `
    const run = async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let output = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data))
      const status = await new Promise((resolve) => child.once('close', resolve))
      return { status, output }
    }
    const ends = await Promise.all([run(), run(), run()])
    for (const { status, output } of ends) assert.deepEqual([status, output], [0, ''])
    assert.equal(await cache.get(NAME, ''), null)
    assert.deepEqual(lines, [])
  })
})
