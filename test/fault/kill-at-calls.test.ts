import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { openKeyFile } from '../../src/keys/file.ts'
import { copyPoint } from '../../src/operations/copy-point.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { createLocalStorage, openLocalStorage } from '../../src/storage/local.ts'
import {
  type AgedRepository,
  addPoint,
  assertAllHold,
  assertHolds,
  clockOff,
  makeAgedRepository,
  prune,
  someOf,
} from '../support/aged-repository.ts'
import {
  chooseSeed,
  openTestRepository,
  seededNumbers,
  temporaryFolder,
  uninterrupted,
  verify,
} from '../support/repository.ts'
import type { KillAtCall, Work } from './kill-at-calls-child.ts'

/** Kills of each kind of work; each call in the soak test. */
const KILLS = 6
const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }

/** Real processes that die by SIGKILL in the middle of a storage call, on a local store. */
describe('killed at a storage call', () => {
  const seed = chooseSeed()
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  let key: KeyProvider
  const path = (name: string) => join(folder.path, name)

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    key = await openKeyFile(keyFile())
    const sound = await createLocalStorage(path('sound'))
    for (const [name, bytes] of aged.memory.objects) await sound.put(name, bytes)
    await sound.close()
    const empty = await createLocalStorage(path('empty'))
    await (await createRepository({ storage: empty, keys: [key], ambient: clockOff(0), service: 'shop' })).close()
    await empty.close()
  })
  after(async () => {
    await aged.close()
    folder.remove()
  })

  const keyFile = () => path(readdirSync(folder.path).find((name) => name.endsWith('.key')) as string)

  /** How the work is shown to have left a valid state, and to be completed by the next. */
  const AFTERWARDS: Record<Work, (repository: Repository, other: Repository) => Promise<unknown>> = {
    backup: async (repository) => assertHolds(repository, await addPoint(repository, aged.next), aged.next),
    prune: (repository) => prune(repository, { expire: [aged.doomed.id] }),
    replicate: assertCopied,
    rekey: completeRekey,
  }

  for (const [work, afterwards] of Object.entries(AFTERWARDS))
    it(`${work} leaves every point whole, and the next one completes it`, async (t) => {
      putBack()
      const calls = Number(await run(work as Work, 0))
      assert.ok(calls > 20, `${calls} calls`)
      const ks = someOf(calls, KILLS, `${seed} ${work}`)
      t.diagnostic(`seed ${seed}, killed at ${ks.length} of ${calls} calls`)
      for (const k of ks) {
        putBack()
        await run(work as Work, k)
        try {
          await withOpen('store', (repository) =>
            withOpen('other', async (other) => {
              await assertAllHold(repository, aged)
              await afterwards(repository, other)
            }),
          )
          // Opened anew, as the next command would: a rekey has changed what opens it.
          await withOpen('store', async (repository) => {
            await prune(repository, { expire: [aged.doomed.id] })
            await assertAllHold(repository, aged)
            await assertHolds(repository, await addPoint(repository, aged.next), aged.next)
            assert.deepEqual((await verify(repository)).problems, [])
          })
        } catch (error) {
          throw new Error(`${work} killed at ${k} of ${calls}, seed ${seed}: ${(error as Error).message}`, {
            cause: error,
          })
        }
      }
    })

  function putBack(): void {
    for (const [from, to] of [
      ['sound', 'store'],
      ['empty', 'other'],
    ] as const) {
      rmSync(path(to), { recursive: true, force: true })
      cpSync(path(from), path(to), { recursive: true })
    }
  }

  /** What it said: nothing, when it was killed. */
  async function run(work: Work, killAt: number): Promise<string> {
    const request: KillAtCall = {
      store: path('store'),
      other: path('other'),
      keyFile: keyFile(),
      work,
      doomed: aged.doomed.id,
      killAt,
      when: seededNumbers(`${seed} ${killAt}`)(2) === 0 ? 'before' : 'after',
    }
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, 'kill-at-calls-child.ts'), JSON.stringify(request)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    let said = ''
    child.stdout.on('data', (text) => {
      said += text
    })
    const [status, signal] = await once(child, 'close')
    // How many calls there are depends on what runs at the same time: the last ones may not come.
    assert.ok(status === 0 || signal === 'SIGKILL', `${work} at ${killAt} ended by itself with ${status}`)
    return said
  }

  async function withOpen(name: string, use: (repository: Repository) => Promise<unknown>): Promise<void> {
    const storage = await openLocalStorage(path(name))
    const repository = await openTestRepository(storage, key, { ambient: clockOff(2 * 24 * 365), workers: 1 })
    try {
      await use(repository)
    } finally {
      await repository.close()
      await storage.close()
    }
  }

  /** Copies that are listed are whole, and the rest follows. */
  async function assertCopied(from: Repository, to: Repository): Promise<void> {
    const copied = new Set<string>()
    for (const point of await to.points()) {
      const id = point.origin?.point ?? ''
      copied.add(id)
      await assertHolds(to, point.id, contentsOf(id))
    }
    for (const { id } of await from.points())
      if (!copied.has(id))
        await assertHolds(to, (await copyPoint(clockOff(0), from, to, id, reporting)).id, contentsOf(id))
    const { problems } = await verify(to)
    assert.deepEqual(problems, [])
  }

  function contentsOf(id: string) {
    return aged.kept.get(id) ?? aged.doomed.contents
  }

  async function completeRekey(repository: Repository): Promise<void> {
    if (repository.keyEpoch.current === 1) await repository.beginRekey([{ provider: key, label: 'key' }])
    await withOpen('store', async (next) => {
      const report = await next.rekey({ signal: uninterrupted(), progress: () => undefined })
      assert.ok(report.done, report.waits.join())
    })
    await withOpen('store', async (next) => {
      assert.deepEqual(next.keyEpoch, { current: 2, oldest: 2 })
      await assertAllHold(next, aged)
    })
  }
})
