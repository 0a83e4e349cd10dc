import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import { createRepository } from '../../src/repository/repository.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import {
  assertRestores,
  chooseSeed,
  openTestRepository,
  temporaryFolder,
  testAmbient,
  verify,
} from '../support/repository.ts'
import type { KillChild } from './kill-child.ts'

/** How many backups both make together before they are ended; the soak test runs for a time instead. */
const BACKUPS = 12
const SECONDS = Number(process.env.REGAIN_SOAK_SECONDS ?? 0)

describe('two processes that back up and prune one repository at the same time', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let key: KeyProvider
  let storage: Storage
  const told = new Set<string>()
  let pruned = 0

  before(async () => {
    folder = temporaryFolder()
    for (const name of ['treeone', 'treetwo', 'expected']) mkdirSync(join(folder.path, name))
    await createKeyFile(join(folder.path, 'key'), testAmbient().randomBytes)
    key = await openKeyFile(join(folder.path, 'key'))
    storage = await createLocalStorage(join(folder.path, 'store'))
    const made = await createRepository({ storage, keys: [key], ambient: testAmbient(), workers: 1, service: 'shop' })
    await made.close()
  })
  after(async () => {
    await storage.close()
    folder.remove()
  })

  it('lose no point that was committed and not expired, though their clocks differ by days', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    let backups = 0
    const untilMs = Date.now() + SECONDS * 1000
    const isEnough = () => (SECONDS > 0 ? Date.now() > untilMs : backups >= BACKUPS && pruned > 0)
    const expired = new Set<string>()
    const children = ['one', 'two'].map((name, i) => {
      const child = run({
        folder: folder.path,
        name,
        firstRound: i * 3,
        seed: `${seed} ${name}`,
        killAt: 0,
        work: 'backup',
      })
      createInterface({ input: child.stdout }).on('line', (line) => {
        const [what, which = '', id = ''] = line.split(' ')
        if (what === 'done') {
          told.add(id)
          backups++
        }
        if (what === 'expire') expired.add(which)
        if (what === 'pruned') pruned += Number(which)
        if (isEnough()) for (const one of children) one.kill('SIGKILL')
      })
      return child
    })
    await Promise.all(children.map(ended))
    // One may expire what the other has not told yet.
    for (const id of expired) told.delete(id)
    t.diagnostic(`${backups} backups, ${expired.size} points expired, ${pruned} packs removed`)
    await assertWhole(`seed ${seed}`)
  })

  function run(request: KillChild) {
    return spawn(process.execPath, [join(import.meta.dirname, 'kill-child.ts'), JSON.stringify(request)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, REGAIN_TEST_FOLDER: folder.path },
    })
  }

  async function ended(child: ReturnType<typeof run>): Promise<void> {
    let errors = ''
    child.stderr.on('data', (text) => {
      errors += text
    })
    const [, signal] = await once(child, 'close')
    assert.equal(signal, 'SIGKILL', `a child ended by itself: ${errors}`)
  }

  async function assertWhole(about: string): Promise<void> {
    const repository = await openTestRepository(storage, key, { workers: 1 })
    try {
      const points = await repository.points()
      const listed = new Set(points.map(({ id }) => id))
      for (const id of told) assert.ok(listed.has(id), `${about}: point ${id} was told as done and is gone`)
      for (const { id, label } of points) {
        const expected = JSON.parse(readFileSync(join(folder.path, 'expected', `${label}.json`), 'utf8'))
        await assertRestores(repository, id, new Map<string, string>(expected))
      }
      const { problems } = await verify(repository)
      // One may have been killed between its commit and its receipt.
      assert.deepEqual(
        problems.filter(({ object, kind }) => !(object.startsWith('receipts/') && kind === 'missing')),
        [],
        about,
      )
    } finally {
      await repository.close()
    }
  }
})
