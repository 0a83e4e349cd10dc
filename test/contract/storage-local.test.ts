import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Storage } from '../../src/storage/contract.ts'
import { createLocalStorage, openLocalStorage } from '../../src/storage/local.ts'
import { listed, rejectsWith } from './storage.ts'
import { SLOTS, slotContent } from './storage-child.ts'

const CHILD = fileURLToPath(new URL('storage-child.ts', import.meta.url))
const MIB = 1024 * 1024

/** Local storage against what only separate processes and real file systems can do to it. */
describe('local storage, from outside', () => {
  it('shows nothing half-written of processes that were killed', async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    await withDirectory(async (directory) => {
      const storage = await createLocalStorage(directory)
      const acknowledged = { slots: new Map<number, number>(), made: new Set<string>() }
      for (let round = 0; round < 15; round++) {
        const lines = (seed >>> (round % 16)) % 24
        await killAfter(lines, ['write', directory, `${seed}`, `${round * 1_000_000}`], (line) => {
          const [what, slot, generation] = line.split(' ')
          if (what === 'done') acknowledged.slots.set(Number(slot), Number(generation))
          if (what === 'made') acknowledged.made.add(`made/${Number(generation) % 7}/${slot}-${generation}`)
        })
        await checkWhole(storage, seed, acknowledged)
      }
      await storage.close()
      await checkLeftoversGo(directory)
    })
  })

  it('lets one process win each of the names that several create', async () => {
    await withDirectory(async (directory) => {
      const storage = await createLocalStorage(directory)
      const winners = new Map<string, number>()
      const children = Array.from({ length: 4 }, () => start(['create', directory, '150']))
      await Promise.all(
        children.map(async (child) => {
          const ended = once(child, 'exit')
          for await (const line of createInterface({ input: child.stdout })) {
            const name = line.replace('won ', '')
            assert.ok(!winners.has(name), `${name} was won twice`)
            winners.set(name, child.pid!)
          }
          assert.deepEqual(await ended, [0, null])
        }),
      )
      assert.equal(winners.size, 150)
      for (const [name, pid] of winners) assert.equal((await storage.get(name)).toString(), `${pid}`)
      await storage.close()
    })
  })

  it('reports a file over its limit as full, and leaves nothing of it', async () => {
    await withDirectory(async (directory) => {
      const storage = await createLocalStorage(directory)
      // In blocks of 1 KiB. Holds for root too.
      const limited = ['-c', 'ulimit -f 1024 && exec "$@"', 'sh', process.execPath, CHILD]
      const fill = (size: number) =>
        spawnSync('sh', [...limited, 'fill', directory, `${size}`], { encoding: 'utf8' }).stdout.trim()
      assert.equal(fill(4 * MIB), 'storage-full')
      assert.deepEqual(await listed(storage), [])
      assert.deepEqual(await readdir(join(directory, '+tmp')), [])
      assert.equal(fill(MIB / 2), 'written')
      assert.deepEqual(await listed(storage), [{ name: 'large', size: MIB / 2 }])
      await storage.close()
    })
  })

  it('reports a full disk, keeps what is there and recovers', async (t) => {
    await withSmallDisk(t, async (directory) => {
      const storage = await createLocalStorage(join(directory, 'store'))
      const kept = Buffer.alloc(2 * MIB, 'k')
      await storage.put('kept', kept)
      await rejectsWith('storage-full', storage.put('large', Buffer.alloc(8 * MIB)))
      await rejectsWith('storage-full', storage.put('kept', Buffer.alloc(8 * MIB)))
      await rejectsWith('storage-full', storage.create('large', Buffer.alloc(8 * MIB)))
      assert.deepEqual(await listed(storage), [{ name: 'kept', size: kept.length }])
      assert.ok((await storage.get('kept')).equals(kept))
      assert.deepEqual(await readdir(join(directory, 'store', '+tmp')), [])
      await storage.put('after', Buffer.alloc(MIB))
      assert.equal(await storage.size('after'), MIB)
      await storage.close()
    })
  })

  it('reads from a disk mounted read-only, and denies writing', async (t) => {
    await withSmallDisk(t, async (directory) => {
      const writing = await createLocalStorage(directory)
      await writing.put('a/b', Buffer.from('x'))
      await writing.close()
      await writeFile(join(directory, '+tmp', '1-2-3'), 'left behind')
      run('mount', '-o', 'remount,ro', directory)
      const logged: string[] = []
      const log = (level: string, _message: string, fields?: Record<string, unknown>) =>
        logged.push(`${level}: ${fields?.cause}`)
      const storage = await openLocalStorage(directory, { now: () => Date.now() + 1e12, log })
      assert.equal(logged.length, 1)
      assert.match(logged[0]!, /^warning: EROFS/)
      assert.equal((await storage.get('a/b')).toString(), 'x')
      assert.deepEqual(await listed(storage), [{ name: 'a/b', size: 1 }])
      await rejectsWith('storage-denied', storage.put('c', Buffer.from('x')))
      await rejectsWith('storage-denied', storage.create('c', Buffer.from('x')))
      await rejectsWith('storage-denied', storage.delete('a/b'))
      await storage.close()
    })
  })

  it('does not take an unmounted disk for an empty store', async (t) => {
    await withSmallDisk(t, async (directory) => {
      const storage = await createLocalStorage(directory)
      await storage.put('a/b', Buffer.from('x'))
      run('umount', '--lazy', directory)
      await rejectsWith('storage-unavailable', listed(storage))
      await rejectsWith('storage-unavailable', storage.get('a/b'))
      await rejectsWith('storage-unavailable', storage.size('a/b'))
      await rejectsWith('storage-unavailable', storage.delete('a/b'))
      await rejectsWith('storage-unavailable', storage.put('a/c', Buffer.from('x')))
      await rejectsWith('storage-unavailable', storage.create('a/c', Buffer.from('x')))
      assert.deepEqual(await readdir(directory), [])
      await storage.close()
    })
  })
})

async function checkWhole(
  storage: Storage,
  seed: number,
  acknowledged: { slots: Map<number, number>; made: Set<string> },
): Promise<void> {
  const names = new Set<string>()
  for (const { name, size } of await listed(storage)) {
    names.add(name)
    const bytes = await storage.get(name)
    const { slot, generation } = JSON.parse(bytes.subarray(0, bytes.indexOf('\n')).toString())
    assert.ok(bytes.equals(slotContent(slot, generation, seed)), `${name} is not whole`)
    assert.equal(size, bytes.length)
    if (name === `slots/${slot}/object`) assert.ok(generation >= (acknowledged.slots.get(slot) ?? 0), `${name} is old`)
    else assert.equal(name, `made/${generation % 7}/${slot}-${generation}`)
  }
  for (const slot of acknowledged.slots.keys()) assert.ok(names.has(`slots/${slot}/object`))
  for (const name of acknowledged.made) assert.ok(names.has(name), `${name} was acknowledged and is gone`)
  assert.ok(acknowledged.slots.size <= SLOTS)
}

async function checkLeftoversGo(directory: string): Promise<void> {
  const leftovers = await readdir(join(directory, '+tmp'))
  assert.ok(leftovers.length > 0, 'no process was killed while it wrote')
  const open = async (now: number) => (await openLocalStorage(directory, { now: () => now, log: () => {} })).close()
  await open(Date.now() + 3_600_000)
  assert.deepEqual(await readdir(join(directory, '+tmp')), leftovers)
  await open(Date.now() + 25 * 3_600_000)
  assert.deepEqual(await readdir(join(directory, '+tmp')), [])
}

function start(args: string[]) {
  return spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
}

/** Kills the child as soon as it has printed so many lines, while its other writes are under way. Hears all it said. */
async function killAfter(lines: number, args: string[], hear: (line: string) => void): Promise<void> {
  const child = start(args)
  const ended = once(child, 'exit')
  let heard = 0
  for await (const line of createInterface({ input: child.stdout })) {
    hear(line)
    if (heard++ === lines) child.kill('SIGKILL')
  }
  assert.deepEqual(await ended, [null, 'SIGKILL'])
}

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const parent = await mkdtemp(join(tmpdir(), 'regain-storage-'))
  try {
    await work(join(parent, 'store'))
  } finally {
    await rm(parent, { recursive: true })
  }
}

/** A file system of 6 MiB of its own. Making one takes the right to mount. */
async function withSmallDisk(
  t: { skip(reason: string): void },
  work: (directory: string) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'regain-disk-'))
  try {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', directory], { encoding: 'utf8' })
    if (mounted.status !== 0) {
      const why = mounted.error?.message ?? mounted.stderr.trim()
      return t.skip(`needs a small disk of its own, and this user may not mount one: ${why}`)
    }
    await work(directory)
  } finally {
    spawnSync('umount', ['--lazy', directory])
    await rm(directory, { recursive: true })
  }
}

function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
}
