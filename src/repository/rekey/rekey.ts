import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { RekeyReport } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { planPrune } from '../collector/plan.ts'
import { prune } from '../collector/prune.ts'
import { readNewest } from '../collector/publish-generation.ts'
import { openSessions } from '../collector/sessions.ts'
import { PREFIX, packName, REPOSITORY } from '../format/object-names.ts'
import { createGeneration, retireGenerations } from '../generations.ts'
import { writeEpoch } from '../keys/administer-keys.ts'
import { epochOf, isRekeying, oldUsers, requireCurrentEpoch } from '../keys/epochs.ts'
import { epochName, keyName, listKeys, readEpoch } from '../keys/key-objects.ts'
import { listPacks } from '../packs/chunk-index.ts'
import { completeReceipts, readCommits } from '../points/commits.ts'
import { deleteUnlessLocked, lockedUntil, untilText } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { renewRepositoryRecord } from './record.ts'
import { type Resealing, resealObjects } from './reseal.ts'

const HEADERS_AT_ONCE = 8

/**
 * Ends the epochs before the current one, for a repository that was opened in it. In this order:
 *
 *   1  repository.json, if whoever began the epoch died before; records, log and index are sealed anew
 *   2  packs are written anew, a bounded part at a time, and the old ones removed: by a prune, with all its steps. Not while
 *      a reader or writer of an older epoch is at work: it could not read the new ones
 *   3  a generation of the current epoch, so that no collector of an older one can make the newest
 *   4  no reader or writer of an older epoch is left; none can begin, as each looks for a newer epoch once it has its pin or
 *      session. Only now can be looked for what is left: whatever such a writer did is there to be seen
 *   5  all is sealed anew that is left; then the epoch's object says so, then the older epochs' key objects go
 *
 * Any prefix of it is a valid state from which the next call goes on.
 */
export async function rekey(state: RepositoryState, options: Omit<Resealing, 'state'>): Promise<RekeyReport> {
  const { signal } = options
  const report: RekeyReport = { epoch: state.keys.epoch, done: false, packs: 0, objects: 0, waits: [] }
  await requireCurrentEpoch(state, signal)
  if (isRekeying(state)) {
    const isRenewed = await renewRepositoryRecord(state, state.keys)
    const locked = await resealAll(state, options, report)
    if (!isRenewed) locked.unshift(REPOSITORY)
    if (locked.length > 0) report.waits.push(await lockedText(state, locked, signal))
    await rewritePacks(state, options, report)
    if (report.waits.length > 0) return { ...report, waits: [...new Set(report.waits)] }
    await renewGeneration(state, signal)
    if (await waitsForUsers(state, signal, report)) return report
    await completeReceipts(state, await readCommits(state, { signal }), signal)
    const lockedSince = await resealAll(state, options, report)
    if (lockedSince.length > 0) report.waits.push(await lockedText(state, lockedSince, signal))
    if (report.waits.length > 0 || (await isAnythingLeft(state, signal, report))) return report
    const list = epochName({ domain: state.keyring.domain, epoch: state.keys.epoch })
    if (!(await endOlder(state))) return { ...report, waits: [await lockedText(state, [list], signal)] }
  }
  const lockedKeys = await removeOlderKeys(state)
  if (lockedKeys.length > 0) return { ...report, waits: [await lockedText(state, lockedKeys, signal)] }
  return { ...report, done: true }
}

/** Resolves with the names of what is locked. */
async function resealAll(
  state: RepositoryState,
  options: Omit<Resealing, 'state'>,
  report: RekeyReport,
): Promise<string[]> {
  const { objects, damaged, locked } = await resealObjects({ state, ...options })
  report.objects += objects
  for (const name of damaged)
    report.waits.push(`${name} is damaged and can't be sealed anew: see regain verify, and mend or remove it.`)
  return locked
}

/** With what ends it: waiting alone does not while the first commit of each month locks anew what points need (locks.ts). */
async function lockedText(state: RepositoryState, names: readonly string[], signal: AbortSignal): Promise<string> {
  const locks: number[] = []
  // Locks of one month end together; repository.json has the last one.
  for (const name of names.slice(0, 1)) locks.push(await lockedUntil(state, name, signal))
  const what = names.length === 1 ? `${names[0]} is` : `${names.length} objects, ${names[0]} among them, are`
  const again = state.storage.immutability
    ? ' The first backup of each month locks anew what it needs: so the rekey ends only once no backup has done that for so long. Take immutable out of the configuration until it is done, or replicate to a new repository.'
    : ''
  return `${what} locked${untilText(locks)}. The old data key stays until then.${again}`
}

/** Packs never change, so each header is read once. */
async function rewritePacks(
  state: RepositoryState,
  options: Omit<Resealing, 'state'>,
  report: RekeyReport,
): Promise<void> {
  const { signal } = options
  const known = new Map<string, boolean>()
  for (;;) {
    throwIfInterrupted(signal)
    const older = await olderPacks(state, known, signal)
    if (older.size === 0 || (await waitsForUsers(state, signal, report))) return
    const request = { expire: [], trimLog: [], weighed: [], ...options }
    const plan = await planPrune(state, request, older)
    const { packs, waits } = await prune(state, plan, options)
    const left = await olderPacks(state, known, signal)
    report.packs += older.size - left.size
    if (left.size === 0) return
    if (waits.length === 0 && left.size < older.size) continue
    report.waits.push(...waits)
    if (waits.length === 0 && packs.removed === 0)
      report.waits.push(
        `${left.size} packs of an older key epoch can't be written anew: see regain verify, and mend them with regain repository repair.`,
      )
    return
  }
}

async function olderPacks(
  state: RepositoryState,
  known: Map<string, boolean>,
  signal: AbortSignal,
): Promise<Set<string>> {
  const names = [...(await listPacks(state, signal)).keys()]
  await mapBounded(names, HEADERS_AT_ONCE, async (name) => {
    if (known.has(name)) return
    const epoch = await epochOf(state, packName(name), signal)
    known.set(name, epoch !== null && epoch < state.keys.epoch)
  })
  return new Set(names.filter((name) => known.get(name)))
}

/** A collector's first steps, with nothing new to remove. Who saw the older ones has ended, or its session is of this epoch. */
async function renewGeneration(state: RepositoryState, signal: AbortSignal): Promise<void> {
  for (;;) {
    throwIfInterrupted(signal)
    const { number, tombstones } = await readNewest(state, signal)
    const name = `${PREFIX.generations}${String(number).padStart(16, '0')}`
    const isOld = (await epochOf(state, name, signal)) !== state.keys.epoch
    const listed = await listPacks(state, signal)
    const carried = [...tombstones].filter((pack) => listed.has(pack))
    if (isOld && !(await createGeneration(state, number + 1, carried.sort(), signal))) continue
    const newest = isOld ? number + 1 : number
    // The collector's step 4: whoever began before might still look for the one it saw.
    const open = await openSessions(state, signal)
    if (open.every(({ generation }) => generation >= newest)) await retireGenerations(state, newest, signal)
    return
  }
}

async function waitsForUsers(state: RepositoryState, signal: AbortSignal, report: RekeyReport): Promise<boolean> {
  const users = await oldUsers(state, signal)
  if (users.length === 0) return false
  const sessions = users.filter((name) => name.startsWith(PREFIX.sessions)).length
  report.waits.push(
    `${sessions} backups and ${users.length - sessions} readers that began before the rekey are at work, or died: ` +
      'the rest is done when they have ended. Those that died are cleared away by regain prune.',
  )
  return true
}

/** Ended sessions stay as they are: that they exist is all that counts. */
async function isAnythingLeft(state: RepositoryState, signal: AbortSignal, report: RekeyReport): Promise<boolean> {
  const names: string[] = []
  for (const prefix of Object.values(PREFIX))
    if (prefix !== PREFIX.sessions && prefix !== PREFIX.keys)
      for await (const { name } of state.storage.list(prefix, { signal })) names.push(name)
  const left: string[] = []
  await mapBounded(names, HEADERS_AT_ONCE, async (name) => {
    throwIfInterrupted(signal)
    const epoch = await epochOf(state, name, signal)
    if (epoch !== null && epoch < state.keys.epoch) left.push(name)
  })
  if (left.length > 0)
    report.waits.push(`${left.length} objects are still in an older key epoch, ${left[0]} among them: run it again.`)
  return left.length > 0
}

/** False: the object is immutable, and as it was. */
async function endOlder(state: RepositoryState): Promise<boolean> {
  const { domain, keys } = state.keyring
  const record = await readEpoch(state.storage, { domain, epoch: keys.epoch }, keys)
  try {
    if (record) await writeEpoch(state, { ...record, oldest: keys.epoch })
    return true
  } catch (error) {
    if (isRegainError(error, 'storage-locked')) return false
    throw error
  }
}

/** Resolves with the names of those that are locked, and stay. */
async function removeOlderKeys(state: RepositoryState): Promise<string[]> {
  const { domain, keys } = state.keyring
  const locked: string[] = []
  for (const { epoch, kek } of (await listKeys(state.storage, domain)).keys) {
    const name = keyName({ domain, epoch }, kek)
    if (epoch < keys.epoch && !(await deleteUnlessLocked(state, name))) locked.push(name)
  }
  return locked
}
