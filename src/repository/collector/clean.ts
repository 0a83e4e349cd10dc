import { isRegainError } from '../../errors.ts'
import type { PrunePlan } from '../api.ts'
import { readEnds, receiptIds } from '../commits.ts'
import { endName, expiredName, lastComponent, PREFIX, pinName } from '../format/object-names.ts'
import { openRecord } from '../format/records.ts'
import { isPinGone } from '../liveness.ts'
import { deleteUnlessLocked } from '../locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { expiredIds, readExpired } from './roots.ts'
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
  for (const id of orphans) {
    // An expired point's end goes by expire.ts, which looks at pins; one with a receipt was lost, and must stay to be rescued.
    if (receipts.has(id) || (await state.storage.size(expiredName(id), { signal })) !== null) continue
    await deleteUnlessLocked(state, endName(id), signal)
  }
  return cleared
}

/**
 * Records of expired points that nothing can ask about any more, in this order: no session is open (one that was there before
 * the expiry may still commit a point that follows this one), **then** no point names it, and nothing of it is left.
 */
export async function clearExpired(state: RepositoryState, signal: AbortSignal): Promise<void> {
  const ids = await expiredIds(state, signal)
  if (ids.length === 0 || (await openSessions(state, signal)).length > 0) return
  const { commits } = await readEnds(state, { signal })
  const named = new Set(commits.map(({ point }) => point.previous?.id))
  const left = new Set<string>()
  for (const prefix of [PREFIX.sessions, PREFIX.ends, PREFIX.receipts])
    for await (const { name } of state.storage.list(prefix, { signal })) left.add(lastComponent(name))
  for (const id of ids) {
    if (named.has(id) || left.has(id)) continue
    const record = await readExpired(state, id, signal)
    if (record && state.ambient.now() - Date.parse(record.expiredAt) > KEEP_EXPIRED_MS)
      await state.storage.delete(expiredName(id), { signal })
  }
}
