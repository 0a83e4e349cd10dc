import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { isRegainError } from '../../src/errors.ts'
import { CLAIM_NAME, claimInPlace } from '../../src/filesystem/target-claim.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ROOM_ASIDE_BYTES } from '../../src/storage/contract.ts'
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
  startRequest,
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

  it('where a restore goes over what is there leaves no claim that nobody could go on with', (t) => {
    if (!mountSmall(t, 'claimed', 2 * MIB)) return
    mkdirSync(path('claimed/data'))
    fill('claimed')
    assert.throws(() => claimInPlace(path('claimed/data'), 'shop/files'), { code: 'target-full' })
    assert.ok(!existsSync(path(`claimed/data/${CLAIM_NAME}`)))
    rmSync(path('claimed/ballast'))
    claimInPlace(path('claimed/data'), 'shop/files').release()
  })

  it('under the store ends a backup with every point whole; with a little room it goes on', async (t) => {
    if (!mountSmall(t, 'small', 16 * MIB)) return
    const { repository, close } = await createOn('small/store')
    const first = (await backUp(repository, path('tree'))).point.id
    writeTree(path('tree'), { large: someBytes('other', 6 * MIB) })
    await assert.rejects(backUp(repository, path('tree')), { code: 'storage-full' })
    await assertRestores(repository, first, expected)

    writeTree(path('tree'), { large: 'small again' })
    const second = (await backUp(repository, path('tree'))).point.id
    await assertRestores(repository, second, readTree(path('tree')))
    await assertSound(repository)
    await close()
  })

  it('to the last byte under the store can be pruned, and then takes the next backup', async (t) => {
    if (!mountSmall(t, 'brim', 16 * MIB)) return
    const { repository, close } = await createOn('brim/store')
    const large = { large: someBytes('large', 6 * MIB) }
    writeTree(path('tree'), large)
    const before = readTree(path('tree'))
    const first = (await backUp(repository, path('tree'))).point.id
    writeTree(path('tree'), { large: 'small' })
    const second = (await backUp(repository, path('tree'))).point.id
    const small = readTree(path('tree'))
    fill('brim')
    await assertRestoresFrom('brim/store', first, before)
    writeTree(path('tree'), large)
    await assert.rejects(backUp(repository, path('tree')), { code: 'storage-full' })

    const report = await prune(repository, [first])
    assert.ok(report.bytesFreed > 5 * MIB)
    assert.deepEqual(report.waits, [])
    await assertRestores(repository, second, small)
    assert.equal(statSync(path('brim/store/+reserve')).size, ROOM_ASIDE_BYTES, 'for the next time')
    writeTree(path('tree'), { large: someBytes('third', 4 * MIB) })
    const third = (await backUp(repository, path('tree'))).point.id
    await assertRestores(repository, third, readTree(path('tree')))
    await assertSound(repository)
    await close()
  })

  it('that has nothing set aside either says what helps, and a prune goes on where room is made', async (t) => {
    if (!mountSmall(t, 'bare', 16 * MIB)) return
    const { repository, close } = await createOn('bare/store')
    writeTree(path('alone'), { large: someBytes('large', 6 * MIB) })
    const first = (await backUp(repository, path('alone'))).point.id
    writeTree(path('alone'), { large: 'small' })
    const second = (await backUp(repository, path('alone'))).point.id
    rmSync(path('bare/store/+reserve'))
    fill('bare')
    await assert.rejects(prune(repository, [first]), (error) => {
      assert.ok(isRegainError(error, 'storage-full'))
      assert.match(error.hint, /something else on that disk/)
      return true
    })
    rmSync(path('bare/ballast'))
    assert.ok((await prune(repository, [first])).bytesFreed > 5 * MIB)
    await assertRestores(repository, second, readTree(path('alone')))
    await close()
  })

  it('with nothing set aside gives up what an earlier prune marked, which takes no word to be written', async (t) => {
    if (!mountSmall(t, 'marked', 16 * MIB)) return
    const { repository, close } = await createOn('marked/store')
    writeTree(path('alone'), { large: someBytes('large', 6 * MIB) })
    const first = (await backUp(repository, path('alone'))).point.id
    writeTree(path('alone'), { large: 'small' })
    const second = (await backUp(repository, path('alone'))).point.id
    // While it runs, what the first point held is marked and stays.
    const running = await repository.startPoint(startRequest({ source: 'another' }))
    assert.ok((await prune(repository, [first])).bytesLater > 5 * MIB)
    await running.discard()
    rmSync(path('marked/store/+reserve'))
    fill('marked')
    assert.ok((await prune(repository, [])).bytesFreed > 5 * MIB)
    await assertRestores(repository, second, readTree(path('alone')))
    await close()
  })

  it('on the whole way, from the command line: a quota that is used up, prune, backup', async (t) => {
    if (!mountSmall(t, 'disk', 16 * MIB)) return
    const regain = commandIn('home')
    mkdirSync(path('home/data'), { recursive: true })
    writeFileSync(path('home/data/large'), someBytes('large', 6 * MIB))
    await regain('init', '--yes', '--service', 'shop', '--files', 'data', '--destination', path('disk/backups'))
    const config = readFileSync(path('home/regain.yaml'), 'utf8')
    writeFileSync(path('home/regain.yaml'), config.replace(/retention:[\s\S]*?(?=\n\S|$)/, 'retention: { last: 1 }\n'))
    await regain('backup', 'shop')
    writeFileSync(path('home/data/large'), 'small')
    await regain('backup', 'shop')
    fill('disk')
    writeFileSync(path('home/data/large'), someBytes('next', 4 * MIB))
    const free = () => statfsSync(path('disk')).bavail
    const before = free()
    const asQuota = commandIn('home', { LD_PRELOAD: quotaLibrary() })
    assert.match((await asQuota.fails('backup', 'shop')).stderr, /Unknown system error -122[\s\S]*Free space/)
    await asQuota('prune', 'shop')
    assert.ok((free() - before) * statfsSync(path('disk')).bsize > 5 * MIB)
    await regain('backup', 'shop')
    await regain('restore', 'shop', '--to', 'restored')
    assert.equal(readTree(path('home/restored')).get('large'), readTree(path('home/data')).get('large'))
    await regain('verify', 'shop')
  })

  it('under the state keeps nobody from backing up, listing, restoring or verifying', async (t) => {
    if (!mountSmall(t, 'state', MIB / 2)) return
    mkdirSync(path('data'))
    writeFileSync(path('data/a'), 'first')
    const regain = commandIn('.', { XDG_STATE_HOME: path('state') })
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
    // As Node gives it: libuv has no name for it.
    const code = 'Unknown system error -122'
    const error = Object.assign(new Error(`${code}: ${code}, write`), { code, errno: -122 })
    assert.ok(isRegainError(storageError(error, 'x could not be written', 'Nothing was changed.'), 'storage-full'))
  })

  async function createOn(store: string) {
    const storage = await createLocalStorage(path(store))
    const ambient = testAmbient()
    const repository = await createRepository({ storage, keys: [made.key], ambient, workers: 1, service: 'shop' })
    const close = async () => {
      await repository.close()
      await storage.close()
    }
    return { repository, close }
  }

  async function prune(repository: Repository, points: string[]) {
    const expire = points.map((id) => ({ id, reason: 'a test' }))
    return repository.prune(await repository.planPrune({ expire, trimLog: [], weighed: [], ...RUN }), RUN)
  }

  /** Regain in this folder; it must succeed, or with `fails` not. */
  function commandIn(home: string, more: Record<string, string> = {}) {
    const env = { PATH: process.env.PATH ?? '', HOME: path(home), LANG: 'C.UTF-8', ...more }
    const run = (...args: string[]) => runCommand(LAUNCHER, args, { cwd: path(home), env })
    const succeeds = async (...args: string[]) => {
      const ran = await run(...args)
      assert.equal(ran.status, 0, `${args.join(' ')}: ${ran.stderr}`)
      return ran
    }
    const fails = async (...args: string[]) => {
      const ran = await run(...args)
      assert.notEqual(ran.status, 0, args.join(' '))
      return ran
    }
    return Object.assign(succeeds, { fails })
  }

  /** A new handle. A pin cannot be written either: readers must get by without. */
  async function assertRestoresFrom(store: string, id: string, tree: Map<string, string>): Promise<void> {
    const storage = await openLocalStorage(path(store))
    const repository = await openTestRepository(storage, made.key)
    await assertRestores(repository, id, tree)
    await repository.close()
    await storage.close()
  }

  function quotaLibrary(): string {
    const library = path('quota.so')
    const source = join(import.meta.dirname, '../support/quota.c')
    const { status, stderr } = spawnSync('gcc', ['-shared', '-fPIC', '-o', library, source, '-ldl'], {
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
    return library
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
