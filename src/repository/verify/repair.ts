import { createHash } from 'node:crypto'
import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { RepairPlan, RepairStep, VerifyOptions, VerifyProblem } from '../api.ts'
import { publishGeneration, readNewest } from '../collector/publish-generation.ts'
import { decodeClear, type RepositoryRecord } from '../format/clear.ts'
import { companions } from '../format/companions.ts'
import { lastComponent, PREFIX, REPOSITORY, receiptName } from '../format/object-names.ts'
import { openRecord } from '../format/records.ts'
import { createGenerationOfAll, numberBeyond, retireGenerations } from '../generations.ts'
import { listPacks, readSegments } from '../packs/chunk-index.ts'
import { PackDirectories } from '../packs/pack-directories.ts'
import { indexPacks, isAnotherAtWork } from '../packs/reusable.ts'
import { readCommits, renewReceipt } from '../points/commits.ts'
import { beginSession, giveUpSession } from '../points/write-session.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from './damage.ts'
import { planRepair } from './repair-plan.ts'
import { inspect } from './verify.ts'

type Options = Pick<VerifyOptions, 'signal' | 'progress'>

/** Verifies, and says what can be mended and what can't. Changes nothing. */
export async function makeRepairPlan(
  state: RepositoryState,
  options: Options & { readData: boolean },
): Promise<RepairPlan> {
  const { signal } = options
  const { report, bad, chunks } = await inspect(state, options)
  const tombstones = await readMarks(state, signal)
  const changedSegments: string[] = []
  const unreadable: string[] = []
  await readSegments(state, { signal, unreadable: (segment) => void unreadable.push(segment) })
  for (const segment of unreadable) if (await isChanged(state, segment, signal)) changedSegments.push(segment)
  const uncovered = await chunks.describeUncovered()
  const undescribed = chunks.undescribed.map(({ pack }) => pack)
  const listed = await listPacks(state, signal)
  return planRepair({
    service: state.service,
    problems: report.problems,
    changedSegments,
    uncovered: uncovered.map((pack) => pack.name.toString('hex')),
    needed: chunks.unindexed,
    undescribed,
    damaged: [...new Set([...bad.names, ...undescribed])].filter((pack) => listed.has(pack)).sort(),
    marked: tombstones,
    isIdle: !(await isAnotherAtWork(state, '', signal)),
    receipts: await renewableReceipts(state, report.problems, signal),
    pins: await changedPins(state, signal),
    companions: await restorableCompanions(
      state,
      report.problems.map(({ object }) => object),
      signal,
    ),
  })
}

/**
 * Carries the plan out, in its order; each step is complete in itself and safe to repeat, beside backups, restores and
 * prunes, so a repair that dies is simply made again.
 */
export async function carryOutRepair(state: RepositoryState, plan: RepairPlan, options: Options): Promise<void> {
  for (const [index, step] of plan.steps.entries()) {
    throwIfInterrupted(options.signal)
    options.progress({ phase: 'repairing', bytesDone: 0, filesDone: index, filesTotal: plan.steps.length })
    await STEPS[step.action](state, step.objects, options.signal)
  }
}

type Step = (state: RepositoryState, objects: readonly string[], signal: AbortSignal) => Promise<void>

const STEPS: Record<RepairStep['action'], Step> = {
  'index-packs': async (state, objects, signal) => {
    const wanted = new Set(objects.map(lastComponent))
    const listed = [...(await listPacks(state, signal))].filter(([name]) => wanted.has(name))
    await indexPacks(state, await new PackDirectories(state, { signal }).read(listed), signal)
  },

  'remove-segments': async (state, objects, signal) => {
    // Looked at once more: what a failing cable or memory once made of it is no reason to remove it.
    for (const name of objects) if (await isChanged(state, name, signal)) await state.storage.delete(name, { signal })
  },

  // The collector's steps 1 to 3, and nothing is removed: a newer generation than this one has taken its marks over.
  'set-aside-packs': async (state, objects, signal) => {
    await publishGeneration(state, new Set(objects.map(lastComponent)), signal)
  },

  'write-receipts': async (state, objects, signal) => writeReceipts(state, new Set(objects.map(lastComponent)), signal),

  // Nobody can tell any more what was about to be removed, so all of it counts as that. Once more: it may be readable after all.
  'mark-all-packs': async (state, _objects, signal) => {
    if ((await readMarks(state, signal)) !== null) return
    const number = await numberBeyond(state, signal)
    if (await createGenerationOfAll(state, number, signal)) await retireGenerations(state, number, signal)
  },

  'remove-pins': async (state, objects, signal) => {
    const changed = await changedPins(state, signal)
    for (const name of objects) if (changed.includes(name)) await state.storage.delete(name, { signal })
  },

  'write-companions': async (state, objects, signal) => {
    const files = companions()
    for (const name of objects) await state.storage.put(name, files[name] as Buffer, { signal })
  },
}

/** Whether the bytes no longer give the name: then nobody, of whatever version and key, can have a use for it. */
async function isChanged(state: RepositoryState, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    const bytes = await state.storage.get(name, undefined, { signal })
    return createHash('sha256').update(bytes).digest('hex') !== lastComponent(name)
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return false
    throw error
  }
}

/** What is marked for removal; null if that can't be known, as the newest generation is damaged or gone. */
async function readMarks(state: RepositoryState, signal: AbortSignal): Promise<ReadonlySet<string> | null> {
  try {
    return (await readNewest(state, signal)).tombstones
  } catch (error) {
    if (!isDamage(error)) throw error
    return null
  }
}

async function renewableReceipts(
  state: RepositoryState,
  problems: readonly VerifyProblem[],
  signal: AbortSignal,
): Promise<string[]> {
  const hurt = new Set(problems.map(({ object }) => object).filter((object) => object.startsWith(PREFIX.receipts)))
  if (hurt.size === 0) return []
  const commits = await readCommits(state, { signal, damaged: () => undefined })
  return commits.map(({ point }) => receiptName(point.id)).filter((name) => hurt.has(name))
}

/** Within a session, for the reason that `completeReceipts` gives. */
async function writeReceipts(state: RepositoryState, ids: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
  const session = await beginSession(state, 'repair', signal)
  try {
    for (const commit of await readCommits(state, { signal, damaged: () => undefined }))
      if (ids.has(commit.point.id)) await renewReceipt(state, commit, signal)
  } finally {
    await giveUpSession(state, session.id, 'a repair, which has no point')
  }
}

/** Pins that do not open. Nobody can tell any more what they are for, and whose they are. */
async function changedPins(state: RepositoryState, signal: AbortSignal): Promise<string[]> {
  const changed: string[] = []
  for await (const { name } of state.storage.list(PREFIX.pins, { signal }))
    try {
      openRecord(state.keys, 'N', name, await state.storage.get(name, undefined, { signal }))
    } catch (error) {
      if (isDamage(error)) changed.push(name)
      // Its reader is done.
      else if (!isRegainError(error, 'storage-not-found')) throw error
    }
  return changed
}

/** Those that this version would write just as they were. */
async function restorableCompanions(
  state: RepositoryState,
  hurt: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const files = companions()
  const wanted = hurt.filter((name) => files[name] !== undefined)
  if (wanted.length === 0 || hurt.includes(REPOSITORY)) return []
  const bytes = await state.storage.get(REPOSITORY, undefined, { signal })
  const record = decodeClear<RepositoryRecord>(bytes, REPOSITORY, 'repository')
  return wanted.filter(
    (name) =>
      createHash('sha256')
        .update(files[name] as Buffer)
        .digest('hex') === record.companions[name],
  )
}
