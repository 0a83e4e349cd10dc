import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { openCatalog } from '../../src/catalog/catalog.ts'
import { loadConfiguration } from '../../src/config/load.ts'
import { isRegainError } from '../../src/errors.ts'
import { CLAIM_NAME, claimInPlace, claimTarget } from '../../src/filesystem/target-claim.ts'
import { drivers } from '../../src/main.ts'
import { backup } from '../../src/operations/backup.ts'
import type { Application } from '../../src/operations/context.ts'
import { init } from '../../src/operations/init.ts'
import { restore } from '../../src/operations/restore.ts'
import { planRestore } from '../../src/operations/restore-plan.ts'
import { previewRestore } from '../../src/operations/restore-preview.ts'
import { LAUNCHER } from '../support/command.ts'

/** What becomes of a restore's target when another writer comes to it between the plan and its execution. */

const CONFIGURATION = `version: 1
state: state
destinations: { local: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
  shop: { sources: { files: { type: files, paths: [data] } }, retention: keep-all }
  over: { sources: { files: { type: files, paths: [folder], exclude: ['*.tmp'] } }, retention: keep-all }
  pair: { sources: { one: { type: files, paths: [data] }, two: { type: files, paths: [data] } }, retention: keep-all }
`

let home: string
let application: Application
const warnings: string[] = []
const reporting = {
  signal: new AbortController().signal,
  progress: () => {},
  warn: (message: string) => void warnings.push(message),
}

before(async () => {
  home = await mkdtemp(join(tmpdir(), 'regain-target-'))
  await mkdir(join(home, 'data'))
  for (let number = 0; number < 20; number++) await writeFile(join(home, 'data', `file-${number}`), `content ${number}`)
  const path = join(home, 'regain.yaml')
  await writeFile(path, CONFIGURATION)
  const config = await loadConfiguration({ path, environment: {} })
  const ambient = { now: Date.now, randomBytes, log: () => {} }
  application = {
    version: 'test',
    ambient,
    environment: {},
    launcher: LAUNCHER,
    processId: process.pid,
    config,
    drivers,
  }
  await init(application)
  await backup(application, { target: 'shop', kind: 'full' }, reporting, () => {})
})
after(() => rm(home, { recursive: true }))

test('what another writer put into the target meanwhile is neither overwritten nor removed', async () => {
  const to = join(home, 'target')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: null, start: false }
  const first = await planRestore(application, request, reporting)
  const second = await planRestore(application, request, reporting)
  await restore(application, first, reporting, () => {})

  await assert.rejects(
    restore(application, second, reporting, () => {}),
    (error) => isRegainError(error, 'target-not-empty'),
  )
  assert.equal((await readdir(to)).length, 20)
  assert.equal(await readFile(join(to, 'file-7'), 'utf8'), 'content 7')
  assert.match(warnings.join('\n'), /Nothing was removed/)
})

test('of restores into one directory at the same time exactly one succeeds', async () => {
  const to = join(home, 'raced')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: null, start: false }
  const plans = await Promise.all([1, 2, 3].map(() => planRestore(application, request, reporting)))
  const outcomes = await Promise.allSettled(plans.map((plan) => restore(application, plan, reporting, () => {})))
  const lost = outcomes.filter((outcome) => outcome.status === 'rejected')
  assert.equal(lost.length, 2)
  for (const { reason } of lost) assert.ok(isRegainError(reason, 'target-not-empty'), String(reason))
  assert.equal((await readdir(to)).length, 20)
  assert.equal((await stat(to)).mtimeMs, (await stat(join(home, 'data'))).mtimeMs)
})

test('a restore that fails before it writes leaves the target to whoever is at work there, or as it was', async () => {
  const to = join(home, 'early')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: 'nothing-like-this', start: false }
  const plan = await planRestore(application, request, reporting)
  const failing = () => restore(application, plan, reporting, () => {})
  await assert.rejects(failing(), (error) => isRegainError(error, 'precondition-failed'))
  assert.equal(existsSync(to), false)
  claimTarget(to).release()
  await writeFile(join(to, 'of-another'), '')
  await assert.rejects(failing(), (error) => isRegainError(error, 'target-not-empty'))
  assert.deepEqual((await readdir(to)).sort(), [CLAIM_NAME, 'of-another'])
})

test('a claim that a backup took in is not brought back', async () => {
  await writeFile(join(home, 'data', CLAIM_NAME), '')
  await backup(application, { target: 'shop', kind: 'full' }, reporting, () => {})
  await rm(join(home, 'data', CLAIM_NAME))
  const to = join(home, 'claimed')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: null, start: false }
  await restore(application, await planRestore(application, request, reporting), reporting, () => {})
  assert.equal((await readdir(to)).length, 20)
})

test('what is taken back leaves nothing that would keep the same command from working', async () => {
  await backup(application, { target: 'pair', kind: 'full' }, reporting, () => {})
  const to = join(home, 'again')
  const request = { target: 'pair', to, at: { kind: 'latest' as const }, path: null, start: false }
  const interruption = new AbortController()
  const interrupted = { ...reporting, signal: interruption.signal, progress: () => interruption.abort() }
  const plan = await planRestore(application, request, reporting)
  await assert.rejects(
    restore(application, plan, interrupted, () => {}),
    (error) => isRegainError(error, 'interrupted'),
  )
  assert.deepEqual(await readdir(to), [])
  const outcomes = await restore(application, await planRestore(application, request, reporting), reporting, () => {})
  assert.deepEqual(
    outcomes.map(({ files }) => files),
    [20, 20],
  )
})

test('over what is there only what the source would hold is put right: what it leaves out, or missed, stays', async () => {
  const data = join(home, 'folder')
  await mkdir(join(data, 'sub'), { recursive: true })
  for (const name of ['kept', 'sub/changed', 'sub/lost', 'scratch.tmp']) await writeFile(join(data, name), name)
  const beside = join(home, 'beside')
  await writeFile(beside, 'beside')
  await backup(application, { target: 'over', kind: 'full' }, reporting, () => {})
  const request = { target: 'over', to: home, at: { kind: 'latest' as const }, path: null, start: false, inPlace: true }
  // The backups themselves lie there.
  await assert.rejects(planRestore(application, request, reporting), (error) =>
    isRegainError(error, 'precondition-failed'),
  )
  // What a repository holds is as little to be written over as a directory that holds it.
  const packs = join(home, 'backups/over/packs')
  await assert.rejects(planRestore(application, { ...request, to: packs }, reporting), (error) =>
    isRegainError(error, 'precondition-failed'),
  )

  await writeFile(join(data, 'sub/changed'), 'changed by mistake')
  await rm(join(data, 'sub/lost'))
  await writeFile(join(data, 'sub/new'), 'new')
  await writeFile(join(data, 'scratch.tmp'), 'still in use')
  const plan = await planRestore(application, { ...request, to: data }, reporting)
  assert.match(plan.parts[0]?.steps.join('\n') ?? '', /WRITE OVER what is in .*folder/)
  const [outcome] = await restore(application, plan, reporting, () => {})
  assert.deepEqual((await readdir(data, { recursive: true })).sort(), [
    'kept',
    'scratch.tmp',
    'sub',
    'sub/changed',
    'sub/lost',
  ])
  assert.equal(await readFile(join(data, 'sub/changed'), 'utf8'), 'sub/changed')
  assert.equal(await readFile(join(data, 'scratch.tmp'), 'utf8'), 'still in use')
  assert.deepEqual([outcome?.bytes, outcome?.over], [19, { reusedBytes: 4, removed: 1 }])
  assert.equal(await readFile(beside, 'utf8'), 'beside')
})

test('what a restore over a directory was cut short in is gone on with, by the same source alone', async () => {
  const to = join(home, 'cut')
  await mkdir(to)
  await writeFile(join(to, 'file-3'), 'other')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: null, start: false, inPlace: true }
  const interruption = new AbortController()
  const interrupted = { ...reporting, signal: interruption.signal, progress: () => interruption.abort() }
  const plan = await planRestore(application, request, reporting)
  await assert.rejects(
    restore(application, plan, interrupted, () => {}),
    (error) => isRegainError(error, 'interrupted'),
  )
  assert.ok(existsSync(join(to, CLAIM_NAME)))
  const other = await planRestore(application, { ...request, target: 'over' }, reporting)
  await assert.rejects(
    restore(application, other, reporting, () => {}),
    (error) => isRegainError(error, 'target-not-empty'),
  )
  // One that is at work has its lock.
  const held = claimInPlace(to, 'shop/files')
  const plans = await planRestore(application, request, reporting)
  await assert.rejects(
    restore(application, plans, reporting, () => {}),
    (error) => isRegainError(error, 'target-not-empty'),
  )
  held.release()
  await restore(application, plans, reporting, () => {})
  assert.equal((await readdir(to)).length, 20)
  assert.equal(await readFile(join(to, 'file-3'), 'utf8'), 'content 3')
})

test('a preview says what is read and written, whether it fits and how long it takes, and changes nothing', async () => {
  const to = join(home, 'previewed')
  const request = { target: 'shop', to, at: { kind: 'latest' as const }, path: null, start: false }
  const plan = await planRestore(application, request, reporting)
  const [preview] = await previewRestore(application, plan, reporting)
  const written = 10 * 'content 0'.length + 10 * 'content 10'.length
  assert.equal(preview?.bytes?.write, written)
  assert.ok((preview?.bytes?.read ?? 0) > 0 && preview?.bytes?.log === 0)
  assert.match(preview?.predicted?.basis ?? '', /no restore of any size was measured/)
  assert.equal(preview?.space.neededBytes, written)
  assert.ok((preview?.space.freeBytes ?? 0) > 0)
  assert.equal(existsSync(to), false)
  await restore(application, plan, reporting, () => {})
  const book = openCatalog({ directory: application.config.state, ambient: application.ambient, pid: process.pid })
  const [run] = book.runs({ operation: 'restore', source: 'files', service: 'shop', limit: 1 })
  book.close()
  assert.deepEqual([run?.outcome, run?.bytes?.read, run?.files], ['complete', written, 20])
})
