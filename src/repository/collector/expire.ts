import { type Commit, readCommit } from '../commits.ts'
import { isDamage, isLoss } from '../damage.ts'
import { requireCurrentEpoch } from '../epochs.ts'
import { endName, expiredName, receiptName, sessionName } from '../format/object-names.ts'
import { type ExpiredRecord, openRecord, sealRecord } from '../format/records.ts'
import { isHeld } from '../holds.ts'
import { isPinGone } from '../liveness.ts'
import { deleteUnlessLocked } from '../locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { readPins } from './roots.ts'
import { fenceSession } from './sessions.ts'

/**
 * Removes a point on purpose: its record (durable), then `sessions/S` (now it no longer counts), `ends/S`, `receipts/S`.
 * Cut short anywhere it is a valid state, which the next prune completes.
 *
 * `held`: nothing was removed; holds.ts says why a hold that was granted is seen here. `read`: a reader still has the point
 * pinned, so its end, which names what the reader needs, stays for now. `locked`: the store keeps what is left of it for now.
 */
export async function expirePoint(
  state: RepositoryState,
  { id, reason }: { id: string; reason: string },
  signal: AbortSignal,
): Promise<'gone' | 'read' | 'locked' | 'held'> {
  if (await isKept(state, id, signal)) return 'held'
  await record(state, id, reason, signal)
  // A record in an epoch that has ended would explain nothing.
  await requireCurrentEpoch(state, signal)
  // Only now does no hold that is granted come too late for this look.
  if (await isKept(state, id, signal)) return 'held'
  await state.storage.delete(sessionName(id))
  // Listed after the session is gone: a reader that pins from now on will see that its point does not count.
  const pins = await readPins(state, signal)
  if (pins.some((pin) => pin.point === id && !isPinGone(state.ambient, pin))) return 'read'
  // Locked like the session, whose lock has ended; where not to the second, the next prune completes it.
  const isGone = (await deleteUnlessLocked(state, endName(id))) && (await deleteUnlessLocked(state, receiptName(id)))
  return isGone ? 'gone' : 'locked'
}

/** A hold of a point that does not count any more is one that came too late, and was not granted. */
async function isKept(state: RepositoryState, id: string, signal: AbortSignal): Promise<boolean> {
  return (await isHeld(state, id, signal)) && (await state.storage.size(sessionName(id), { signal })) !== null
}

async function record(state: RepositoryState, id: string, reason: string, signal: AbortSignal): Promise<void> {
  const name = expiredName(id)
  if ((await state.storage.size(name, { signal })) !== null) return
  let commit = await commitOf(state, id, signal)
  if (!commit) {
    // A point that was lost. Should its session be there, no end of it may appear once that is deleted.
    await fenceSession(state, id, 'the point was given up')
    commit = await commitOf(state, id, signal)
  }
  const expired: ExpiredRecord = {
    session: id,
    commit: commit?.sha256 ?? (await receiptHash(state, id, signal)),
    source: commit?.point.source ?? '',
    committedAt: commit?.point.committedAt ?? '',
    expiredAt: new Date(state.ambient.now()).toISOString(),
    reason,
  }
  const sealed = sealRecord(state.keys, 'X', name, expired, state.ambient.randomBytes(32))
  await state.storage.create(name, sealed, { fromReserve: true })
}

/** Null also where it can't be read: a person gave up what is lost. */
async function commitOf(state: RepositoryState, id: string, signal: AbortSignal): Promise<Commit | null> {
  try {
    return await readCommit(state, id, signal)
  } catch (error) {
    if (!isDamage(error)) throw error
    return null
  }
}

async function receiptHash(state: RepositoryState, id: string, signal: AbortSignal): Promise<string> {
  const name = receiptName(id)
  try {
    return openRecord(state.keys, 'R', name, await state.storage.get(name, undefined, { signal })).commit
  } catch (error) {
    if (isLoss(error)) return ''
    throw error
  }
}
