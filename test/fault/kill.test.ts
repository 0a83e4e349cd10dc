import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import {
  assertRestores,
  backUp,
  chooseSeed,
  openTestRepository,
  readTree,
  SOURCE,
  seededNumbers,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  verify,
  writeTree,
} from '../support/repository.ts'
import type { KillChild } from './kill-child.ts'

/** Rounds of work cut short by SIGKILL; the soak test sets more. */
const ROUNDS = Number(process.env.REGAIN_SOAK_ROUNDS ?? 25)
const CHILD = join(import.meta.dirname, 'kill-child.ts')
/** Points restored after each kill; all of them in the end. */
const NEWEST = 3
const MOST_POINTS = 6

/** What a child said: ids of points that are done, of such as it was about to expire, and how many packs it removed. */
interface Said {
  done: string[]
  expiring: string[]
  removed: number
}

describe('backups, prunes and restores that are killed at any moment', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let key: KeyProvider
  let storage: Storage
  let round = 0
  /** Packs, by prunes of children and in between. */
  let removed = 0

  before(async () => {
    folder = temporaryFolder()
    for (const name of ['tree', 'expected']) mkdirSync(join(folder.path, name))
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

  it('leave every point that was committed and not expired, and the next backup works', async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const random = seededNumbers(seed)
    const told = new Set<string>()
    for (let i = 0; i < ROUNDS; i++) {
      const about = `seed ${seed}, kill ${i}`
      // In turn: at a storage call, at a moment, and at a moment of a restore.
      const restoring = i % 5 === 4
      const killAt = !restoring && i % 2 === 0 ? 1 + random(200) : 0
      const said = await killed({ seed: `${seed} ${i}`, killAt, delayMs: random(600), restoring })
      for (const id of said.done) told.add(id)
      for (const id of said.expiring) told.delete(id)
      removed += said.removed
      await assertWhole(told, about, NEWEST)
    }
    await assertWhole(told, `seed ${seed}, in the end`, Number.POSITIVE_INFINITY)
    t.diagnostic(`${told.size} points kept, ${round} backups begun, ${removed} packs removed`)
    assert.ok(told.size > 0, 'no backup got to its end: nothing was tested')
    assert.ok(removed > 0, 'no prune removed anything')
  })

  /** Runs a child until it is killed. Returns what it said. */
  async function killed(how: { seed: string; killAt: number; delayMs: number; restoring: boolean }): Promise<Said> {
    const { seed, killAt, restoring } = how
    const work = restoring ? 'restore' : 'backup'
    const request: KillChild = { folder: folder.path, name: '', firstRound: round, seed, killAt, work }
    const child = spawn(process.execPath, [CHILD, JSON.stringify(request)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, REGAIN_TEST_FOLDER: folder.path },
    })
    // Not 'exit': what it had said last is read first.
    const exited = once(child, 'close')
    const said: Said = { done: [], expiring: [], removed: 0 }
    let errors = ''
    child.stderr.on('data', (text) => {
      errors += text
    })
    const lines = createInterface({ input: child.stdout })
    const begun = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        const [what, which = '', id = ''] = line.split(' ')
        if (what === 'begin') round = Number(which) + 1
        if (what === 'done') said.done.push(id)
        if (what === 'expire') said.expiring.push(which)
        if (what === 'pruned') said.removed += Number(which)
        resolve()
      })
    })
    if (how.killAt === 0) {
      if (!how.restoring) await Promise.race([begun, exited])
      await delay(how.delayMs)
      child.kill('SIGKILL')
    }
    const [, signal] = await exited
    assert.equal(signal, 'SIGKILL', `the child ended by itself: ${errors}`)
    return said
  }

  async function assertWhole(told: Set<string>, about: string, newest: number): Promise<void> {
    const repository = await openTestRepository(storage, key, { workers: 1 })
    try {
      const points = await repository.points({ source: SOURCE })
      const listed = new Set(points.map(({ id }) => id))
      for (const id of told) assert.ok(listed.has(id), `${about}: point ${id} was told as done and is gone`)
      for (const { id, label } of points.slice(-newest)) {
        const expected = new Map<string, string>(
          JSON.parse(readFileSync(join(folder.path, 'expected', `${label}.json`), 'utf8')),
        )
        await assertRestores(repository, id, expected)
      }
      await assertSoundBut(repository, about)
      await assertNextWorks(repository)
      await thinOut(repository, told)
    } finally {
      await repository.close()
    }
  }

  /** Killed between its commit and its receipt, a backup leaves a point without one: said, and made good by the next. */
  async function assertSoundBut(repository: Repository, about: string): Promise<void> {
    const { problems } = await verify(repository)
    const others = problems.filter(({ object, kind }) => !(object.startsWith('receipts/') && kind === 'missing'))
    assert.deepEqual(others, [], about)
    assert.ok(problems.length <= 1, about)
  }

  /** So that a child gets through its prunes before it is killed, however many rounds there were. */
  async function thinOut(repository: Repository, told: Set<string>): Promise<void> {
    const points = await repository.points()
    const old = points.filter(({ source }) => source === SOURCE).slice(0, -MOST_POINTS)
    const expire = [...old, ...points.filter(({ source }) => source === 'next')].map(({ id }) => id)
    const run = { signal: uninterrupted(), progress: () => undefined }
    const asked = expire.map((id) => ({ id, reason: 'a test' }))
    const weighed = points.map(({ id }) => id)
    const { packs } = await repository.prune(
      await repository.planPrune({ expire: asked, trimLog: [], weighed, ...run }),
      run,
    )
    removed += packs.removed
    for (const id of expire) told.delete(id)
  }

  async function assertNextWorks(repository: Repository): Promise<void> {
    const tree = join(folder.path, 'small')
    writeTree(tree, { file: `before round ${round}` })
    const { point } = await backUp(repository, tree, { source: 'next', label: 'next' })
    await assertRestores(repository, point.id, readTree(tree))
    assert.deepEqual((await verify(repository)).problems, [])
    rmSync(tree, { recursive: true })
  }
})
