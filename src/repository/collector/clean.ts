import { isRegainError } from '../../errors.ts'
import type { PrunePlan } from '../api.ts'
import { endName, holdName, lastComponent, PREFIX, pinName } from '../format/object-names.ts'
import { openRecord } from '../format/records.ts'
import { counts, readEnds, receiptIds } from '../points/commits.ts'
import { expiredNames, isExpired, isExpiryOver, readExpired } from '../points/expired.ts'
import { isPinGone } from '../points/liveness.ts'
import { deleteUnlessLocked } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { clearAborted, openSessions } from './sessions.ts'

/**
 * Records of expired points are kept for so long at least: they only keep verification from calling a point lost, and a receipt
 * that a writer was about to write when it fell asleep would.
 */
const KEEP_EXPIRED_MS = 30 * 24 * 3_600_000

/** Pins of readers that died. Looked at once more: nothing but their own record decides. */
export async function clearPins(state: RepositoryState, pins: PrunePlan['pins'], signal: AbortSignal): Promise<number> {
  let cleared = 0
  for (const { pin } of pins) {
    const name = pinName(pin)
    try {
      const record = openRecord(state.keys, 'N', name, await state.storage.get(name, undefined, { signal }))
      if (!isPinGone(state.ambient, record)) continue
    } catch (error) {
      if (isRegainError(error, 'storage-not-found')) continue
      throw error
    }
    await state.storage.delete(name, { signal })
    cleared++
  }
  return cleared
}

/** Aborted sessions, and ends whose session is gone. */
export async function clearEnds(state: RepositoryState, signal: AbortSignal): Promise<number> {
  // Ends were listed before sessions, and a session never comes back: an orphan stays one.
  const { aborted, orphans } = await readEnds(state, { signal, damaged: () => undefined })
  let cleared = 0
  for (const id of aborted) if (await clearAborted(state, id, signal)) cleared++
  const receipts = await receiptIds(state, signal)
  const expired = await expiredNames(state, signal)
  for (const id of orphans) {
    // An expired point's end goes by expire.ts, which looks at pins; one with a receipt was lost, and must stay to be rescued.
    if (receipts.has(id) || expired.has(id)) continue
    await deleteUnlessLocked(state, endName(id), signal)
  }
  return cleared
}

/**
 * Records of expired points that nothing can ask about any more, in this order: the session is gone, so nobody who begins
 * later can follow the point; **then** no session is open; **then** no point names it; **then** nothing else of it is left.
 * And of points that count, the records of expiries that died: whoever removes the point makes another. (model/records.pml)
 */
export async function clearExpired(state: RepositoryState, signal: AbortSignal): Promise<void> {
  const names = await expiredNames(state, signal)
  if (names.size === 0) return
  const sessions = await idsUnder(state, PREFIX.sessions, signal)
  for (const id of names.keys()) if (sessions.has(id)) await takeBackStale(state, id, signal)
  if ((await openSessions(state, signal)).length > 0) return
  const { commits } = await readEnds(state, { signal })
  const named = new Set(commits.map(({ point }) => point.previous?.id))
  const ends = await idsUnder(state, PREFIX.ends, signal)
  const receipts = await idsUnder(state, PREFIX.receipts, signal)
  for (const id of names.keys()) {
    if (sessions.has(id) || named.has(id) || ends.has(id) || receipts.has(id)) continue
    for (const [name, record] of await readExpired(state, id, signal))
      if (state.ambient.now() - Date.parse(record.expiredAt) > KEEP_EXPIRED_MS)
        await state.storage.delete(name, { signal })
  }
}

/** Else the point's loss, should it come, would look like its removal. */
async function takeBackStale(state: RepositoryState, id: string, signal: AbortSignal): Promise<void> {
  const records = await readExpired(state, id, signal)
  if (!(await counts(state, id, signal))) return
  for (const [name, record] of records) if (isExpiryOver(state, record)) await state.storage.delete(name, { signal })
}

/** Holds of points that do not count: they came too late. */
export async function clearHolds(state: RepositoryState, signal: AbortSignal): Promise<void> {
  for (const id of await idsUnder(state, PREFIX.holds, signal))
    if (!(await counts(state, id, signal)) && (await isExpired(state, id, signal)))
      await state.storage.delete(holdName(id), { signal })
}

async function idsUnder(state: RepositoryState, prefix: string, signal: AbortSignal): Promise<Set<string>> {
  const ids = new Set<string>()
  for await (const { name } of state.storage.list(prefix, { signal })) ids.add(lastComponent(name))
  return ids
}
