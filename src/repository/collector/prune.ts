import { isRegainError, RegainError } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import type { LogRange, PrunePlan, PruneReport } from '../api.ts'
import { sessionName } from '../format/object-names.ts'
import { readCommit, readCommits } from '../points/commits.ts'
import { isPinGone } from '../points/liveness.ts'
import { lockedUntil, untilText } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { clearEnds, clearExpired, clearHolds, clearPins } from './clean.ts'
import { expirePoint } from './expire.ts'
import { PackRemoval } from './pack-removal.ts'
import { readPins } from './roots.ts'
import { fenceSession, openSessions } from './sessions.ts'
import { trimLog } from './trim-log.ts'

interface Options {
  signal: AbortSignal
  progress(progress: Progress): void
}

/**
 * The collector of docs/format.md: no lock, no clock; other collectors, writers and readers may be at any step of theirs. What
 * it does in which order is what makes it safe; each step's file says why. Every prefix of it is a valid state.
 */
export async function prune(state: RepositoryState, plan: PrunePlan, options: Options): Promise<PruneReport> {
  if (plan.repository !== state.id)
    throw new RegainError('usage', 'The plan is of another repository. Nothing was removed.')
  const report: PruneReport = {
    expired: [],
    packs: { removed: 0, repacked: 0 },
    logSegments: 0,
    bytesFreed: 0,
    sessions: 0,
    pins: 0,
    bytesLater: 0,
    waits: [],
  }
  try {
    await carryOut(state, plan, report, options)
  } catch (error) {
    throw isRegainError(error, 'storage-full') ? noRoomAtAll(error) : error
  }
  report.waits = [...new Set(report.waits)]
  return report
}

async function carryOut(state: RepositoryState, plan: PrunePlan, report: PruneReport, options: Options): Promise<void> {
  const { signal } = options
  // What was marked earlier may go without another word being written. All else writes first, so where there is no room it takes
  // what was set aside, little as that is.
  const isFull = !(await setsRoomAside(state, signal))
  const packs = new PackRemoval(state, plan, report, options)
  if (isFull) await packs.removeMarkedBefore()
  await expirePoints(state, plan, report, signal)
  report.pins = await clearPins(state, plan.pins, signal)
  await fenceGone(state, plan, report, signal)
  await trimLogs(state, plan, report, signal)
  await packs.run({ isFull })
  await clearEnds(state, signal)
  await clearExpired(state, signal)
  await clearHolds(state, signal)
  await packs.mergeIndex()
  if (!(await setsRoomAside(state, signal)))
    report.waits.push('The destination is still so full that no room could be set aside for the next prune.')
}

function noRoomAtAll(error: RegainError): RegainError {
  return new RegainError(
    'storage-full',
    `Not even the records that removal writes first found room. ${error.message}`,
    {
      cause: error,
      hint: 'Move or delete something else on that disk, a megabyte is enough, then run: regain prune',
    },
  )
}

async function expirePoints(
  state: RepositoryState,
  plan: PrunePlan,
  report: PruneReport,
  signal: AbortSignal,
): Promise<void> {
  const locks: number[] = []
  for (const { id, reason } of plan.expire) {
    const untilMs = await lockedUntil(state, sessionName(id), signal)
    if (untilMs > 0) {
      locks.push(untilMs)
      continue
    }
    const outcome = await expirePoint(state, { id, reason }, signal)
    if (outcome === 'held') report.waits.push(`Recovery point ${id} has been held since the plan was made, and stays.`)
    else report.expired.push(id)
    if (outcome === 'read')
      report.waits.push(`Recovery point ${id} is being read: its data is removed by the next prune after that.`)
  }
  if (locks.length > 0) report.waits.push(lockedPoints(locks))
}

function lockedPoints(locks: readonly number[]): string {
  const what = locks.length === 1 ? 'A recovery point is' : `${locks.length} recovery points are`
  return `${what} locked${untilText(locks)}: the first prune after that removes what the policy does not keep.`
}

/** Step 4's other half: who is known to be gone need not be waited for. */
async function fenceGone(
  state: RepositoryState,
  plan: PrunePlan,
  report: PruneReport,
  signal: AbortSignal,
): Promise<void> {
  const planned = new Set(plan.sessions.map(({ session }) => session))
  for (const { session, gone } of await openSessions(state, signal))
    if (gone && planned.has(session) && (await fenceSession(state, session, `its writer is ${gone}`))) report.sessions++
}

async function trimLogs(
  state: RepositoryState,
  plan: PrunePlan,
  report: PruneReport,
  signal: AbortSignal,
): Promise<void> {
  for (const [source, ranges] of bySource(plan.trimLog)) {
    const gone = await trimLog(state, source, ranges, () => whyLogStays(state, plan, source, signal), signal)
    if (typeof gone === 'string') {
      report.waits.push(`The log of ${source} is left as it is${gone}`)
      continue
    }
    report.logSegments += gone.filter(({ isSegment }) => isSegment).length
    report.bytesFreed += gone.reduce((sum, { size }) => sum + size, 0)
  }
}

/** Sessions are looked at **before** points: a backup is then seen open, or its point is one that was not weighed. */
async function whyLogStays(
  state: RepositoryState,
  plan: PrunePlan,
  source: string,
  signal: AbortSignal,
): Promise<string | null> {
  const open = await openSessions(state, signal)
  if (open.some((session) => session.source === source || session.source === '')) return ' while a backup of it runs.'
  const commits = await readCommits(state, { signal })
  const points = commits.filter(({ point }) => point.source === source).map(({ point }) => point.id)
  if ((await sourcesRead(state, signal)).has(source)) return ' while a recovery point of it is being read.'
  const weighed = new Set(plan.weighed)
  if (points.some((id) => !weighed.has(id))) return ': there is a recovery point that was not weighed.'
  // Held since, or locked: the ranges were chosen as if it were gone, and it can't be restored without the log of its own backup.
  const doomed = new Set(plan.expire.map(({ id }) => id))
  if (points.some((id) => doomed.has(id))) return ': a recovery point that was to be removed has stayed.'
  return null
}

/** A restore may go on from its point along log that no kept point needs. */
async function sourcesRead(state: RepositoryState, signal: AbortSignal): Promise<Set<string>> {
  const sources = new Set<string>()
  for (const pin of await readPins(state, signal)) {
    if (isPinGone(state.ambient, pin)) continue
    const commit = await readCommit(state, pin.point, signal)
    if (commit) sources.add(commit.point.source)
  }
  return sources
}

function bySource(ranges: readonly LogRange[]): Map<string, LogRange[]> {
  const grouped = new Map<string, LogRange[]>()
  for (const range of ranges) grouped.set(range.source, [...(grouped.get(range.source) ?? []), range])
  return grouped
}

/** True where the store can't be full to the last byte. */
async function setsRoomAside(state: RepositoryState, signal: AbortSignal): Promise<boolean> {
  return (await state.storage.setRoomAside?.({ signal })) ?? true
}
