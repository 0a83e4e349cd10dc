import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { createLocalStorage, openLocalStorage } from '../../src/storage/local.ts'
import { storageError } from '../../src/storage/local-errors.ts'
import { LAUNCHER, runCommand } from '../support/command.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  openTestRepository,
  readTree,
  someBytes,
  type TestRepository,
  temporaryFolder,
  testAmbient,
  uninterrupted,
  writeTree,
} from '../support/repository.ts'

const MIB = 1024 * 1024
const RUN = { signal: uninterrupted(), progress: () => undefined }

/** Real file systems that are full, wherever Regain writes. */
describe('a full disk', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let made: TestRepository
  let expected: Map<string, string>
  let point: string
  const path = (name: string) => join(folder.path, name)

  before(async () => {
    folder = temporaryFolder()
    made = await createTestRepository(await createLocalStorage(path('store')), folder.path)
    writeTree(path('tree'), { large: someBytes('large', 6 * MIB), many: 'x' })
    writeTree(
      path('tree'),
      Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`some/${i}`, someBytes(`${i}`, 9000)])),
    )
    point = (await backUp(made.repository, path('tree'))).point.id
    expected = readTree(path('tree'))
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  it('at the target of a restore is told as that, and the point can be restored elsewhere', async (t) => {
    if (!mountSmall(t, 'target', 2 * MIB)) return
    const opened = await made.repository.openPoint(point, RUN)
    const options = { ...RUN, warn: () => undefined }
    await assert.rejects(opened.materialize(path('target/restored'), options), { code: 'target-full' })
    await opened.close()
    await assertRestores(made.repository, point, expected)
  })

  it('under the store ends a backup, or a prune, with every point whole; with a little room they go on', async (t) => {
    if (!mountSmall(t, 'small', 12 * MIB)) return
    const storage = await createLocalStorage(path('small/store'))
    const ambient = testAmbient()
    const repository = await createRepository({ storage, keys: [made.key], ambient, workers: 1, service: 'shop' })
    const first = (await backUp(repository, path('tree'))).point.id
    writeTree(path('tree'), { large: someBytes('other', 6 * MIB) })
    await assert.rejects(backUp(repository, path('tree')), { code: 'storage-full' })
    await assertRestores(repository, first, expected)

    writeTree(path('tree'), { large: 'small again' })
    const second = (await backUp(repository, path('tree'))).point.id
    fill('small')
    const expire = [{ id: first, reason: 'a test' }]
    const prune = async () =>
      repository.prune(await repository.planPrune({ expire, trimLog: [], weighed: [], ...RUN }), RUN)
    await assert.rejects(prune(), { code: 'storage-full' })
    await assertRestoresFrom('small/store', first, expected)
    await assertRestoresFrom('small/store', second, readTree(path('tree')))

    rmSync(path('small/ballast'))
    const { bytesFreed } = await prune()
    assert.ok(bytesFreed > 5 * MIB)
    await assertRestores(repository, second, readTree(path('tree')))
    await assertSound(repository)
    await repository.close()
    await storage.close()
  })

  it('under the state keeps nobody from backing up, listing, restoring or verifying', async (t) => {
    if (!mountSmall(t, 'state', MIB / 2)) return
    mkdirSync(path('data'))
    writeFileSync(path('data/a'), 'first')
    const env = { PATH: process.env.PATH ?? '', HOME: folder.path, XDG_STATE_HOME: path('state'), LANG: 'C.UTF-8' }
    const regain = async (...args: string[]) => {
      const ran = await runCommand(LAUNCHER, args, { cwd: folder.path, env })
      assert.equal(ran.status, 0, `${args.join(' ')}: ${ran.stderr}`)
      return ran
    }
    await regain('init', '--yes', '--service', 'shop', '--files', 'data', '--destination', 'backups')
    for (const round of ['a state file that cannot grow', 'none that can be made']) {
      if (round.startsWith('none')) rmSync(path('state/regain'), { recursive: true })
      else await regain('backup', 'shop')
      fill('state')
      writeFileSync(path('data/b'), round)
      const { stderr } = await regain('backup', 'shop')
      assert.match(stderr, /Warning: This run is not noted in the state directory/, round)
      await regain('points')
      await regain('restore', 'shop', '--to', `restored ${round}`)
      assert.deepEqual(readTree(path(`restored ${round}`)).get('b'), readTree(path('data')).get('b'), round)
      await regain('verify', 'shop')
    }
  })

  it('is what a quota that is used up is told as', () => {
    const error = Object.assign(new Error('EDQUOT: disk quota exceeded, write'), { code: 'EDQUOT', errno: -122 })
    assert.ok(isRegainError(storageError(error, 'x could not be written', 'Nothing was changed.'), 'storage-full'))
  })

  /** A new handle. A pin cannot be written either: readers must get by without. */
  async function assertRestoresFrom(store: string, id: string, tree: Map<string, string>): Promise<void> {
    const storage = await openLocalStorage(path(store))
    const repository = await openTestRepository(storage, made.key)
    await assertRestores(repository, id, tree)
    await repository.close()
    await storage.close()
  }

  /** False, and the test is skipped, where this user may not mount one. */
  function mountSmall(t: TestContext, name: string, sizeBytes: number): boolean {
    mkdirSync(path(name))
    const args = ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', path(name)]
    const { status, stderr, error } = spawnSync('mount', args, { encoding: 'utf8' })
    if (status !== 0) {
      t.skip(`needs a small disk of its own, and this user may not mount one: ${error?.message ?? stderr.trim()}`)
      return false
    }
    t.after(() => void spawnSync('umount', ['--lazy', path(name)]))
    return true
  }

  function fill(name: string): void {
    const fd = openSync(path(`${name}/ballast`), 'a')
    try {
      for (;;) writeSync(fd, Buffer.alloc(4096))
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
    } finally {
      closeSync(fd)
    }
  }
})
