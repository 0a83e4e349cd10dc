import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { isRegainError } from '../../src/errors.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { type FaultScript, type FaultyStorage, withFaults } from '../../src/storage/fault.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import {
  assertRestores,
  assertSound,
  backUp,
  readTree,
  restore,
  someBytes,
  temporaryFolder,
  testAmbient,
  verify,
  writeTree,
} from '../support/repository.ts'

const MIB = 1024 * 1024
/** Packs and frames that may be under way when the signal fires, and what clears a session away. */
const MAX_CALLS_AFTER = 25

describe('an interruption', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let tree: string
  let local: Storage
  let storage: FaultyStorage
  let script: FaultScript
  let repository: Repository
  let point: string

  before(async () => {
    folder = temporaryFolder()
    tree = join(folder.path, 'tree')
    const small = Array.from({ length: 300 }, (_, i) => [`small/${i}`, someBytes(`${i}`, 2000)] as const)
    writeTree(tree, {
      ...Object.fromEntries(small),
      big: someBytes('big', 20 * MIB),
      bigger: someBytes('bigger', 70 * MIB),
    })
    const keyFile = join(folder.path, 'key')
    await createKeyFile(keyFile, testAmbient().randomBytes)
    local = await createLocalStorage(join(folder.path, 'store'))
    script = () => null
    storage = withFaults(local, (call) => script(call))
    const key = await openKeyFile(keyFile)
    repository = await createRepository({ storage, keys: [key], ambient: testAmbient(), workers: 2, service: 'shop' })
    point = (await backUp(repository, tree)).point.id
  })
  after(async () => {
    await repository.close()
    await local.close()
    folder.remove()
  })

  /** Fires at the k-th call of the work; returns how many calls came after it. */
  async function interruptAt(k: number, work: (signal: AbortSignal) => Promise<unknown>): Promise<number | null> {
    const controller = new AbortController()
    const start = storage.calls.length
    script = () => {
      if (storage.calls.length - start === k) controller.abort()
      return null
    }
    try {
      await work(controller.signal)
      return null
    } catch (error) {
      assert.ok(isRegainError(error, 'interrupted'), `at call ${k}: ${error}`)
      return storage.calls.length - start - k
    } finally {
      script = () => null
    }
  }

  const WORK: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
    // A source of its own that never gets a point: each of its backups is a first one.
    'a backup': (signal) => backUp(repository, tree, { kind: 'full', source: 'other', signal }),
    'a restore': (signal) => restore(repository, point, signal),
    'a verification': (signal) => verify(repository, { signal }),
  }

  for (const [what, work] of Object.entries(WORK))
    it(`at any storage call ends ${what} soon, with nothing of it visible`, async () => {
      const points = (await repository.points()).length
      let interrupted = 0
      for (let k = 1; k < 1000; k += k < 30 ? 1 : 7) {
        const callsAfter = await interruptAt(k, work)
        if (callsAfter === null) break
        interrupted++
        assert.ok(callsAfter <= MAX_CALLS_AFTER, `${callsAfter} calls after an interruption at call ${k}`)
        assert.equal((await repository.points()).length, points)
      }
      assert.ok(interrupted > 5, `${interrupted}`)
      await assertRestores(repository, point, readTree(tree))
      await assertSound(repository)
    })

  it('at any moment of the reading ends a backup, with nothing of it visible', async () => {
    for (const share of [0, 0.05, 0.3, 0.6, 0.99]) {
      const controller = new AbortController()
      const progress = ({ bytesDone }: { bytesDone: number }) => {
        if (bytesDone >= share * 90 * MIB) controller.abort()
      }
      const moment = { kind: 'full', source: 'moment', signal: controller.signal, progress } as const
      writeTree(tree, { changed: `at ${share}` })
      await assert.rejects(backUp(repository, tree, moment), { code: 'interrupted' })
    }
    assert.deepEqual(await repository.points({ source: 'moment' }), [])
    await assertSound(repository)
  })

  it('that came before the work begins ends it at once', async () => {
    for (const work of Object.values(WORK)) await assert.rejects(work(AbortSignal.abort()), { code: 'interrupted' })
    await assert.rejects(repository.openPoint(point, { signal: AbortSignal.abort() }), { code: 'interrupted' })
  })

  for (const closing of ['close', 'leave'])
    it(`leaves nothing that keeps the process alive (${closing})`, async () => {
      const child = join(import.meta.dirname, 'interrupt-child.ts')
      const args = [child, folder.path, join(folder.path, 'key'), point, closing]
      // The time limit only keeps a failure from hanging the suite.
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 60_000 })
      assert.equal(stdout, 'the last line')
    })
})
