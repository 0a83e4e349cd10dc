import { isRegainError } from '../../errors.ts'
import { tidy } from '../cleanup.ts'
import { endName, expiredName, receiptName, sessionName } from '../format/object-names.ts'
import { type ExpiredRecord, openRecord, sealRecord } from '../format/records.ts'
import { requireCurrentEpoch } from '../keys/epochs.ts'
import { type Commit, readCommit } from '../points/commits.ts'
import { isExpired } from '../points/expired.ts'
import { isHeld } from '../points/holds.ts'
import { isPinGone, ownTrace } from '../points/liveness.ts'
import { deleteUnlessLocked } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage, isLoss } from '../verify/damage.ts'
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
  if (!(await decide(state, id, reason, signal))) return 'held'
  await state.storage.delete(sessionName(id))
  // Listed after the session is gone: a reader that pins from now on will see that its point does not count.
  const pins = await readPins(state, signal)
  if (pins.some((pin) => pin.point === id && !isPinGone(state.ambient, pin))) return 'read'
  // Locked like the session, whose lock has ended; where not to the second, the next prune completes it.
  const isGone = (await deleteUnlessLocked(state, endName(id))) && (await deleteUnlessLocked(state, receiptName(id)))
  return isGone ? 'gone' : 'locked'
}

/** True: the point may be deleted, with a record of this very expiry. False: it is held, and no such record is left. */
async function decide(state: RepositoryState, id: string, reason: string, signal: AbortSignal): Promise<boolean> {
  const isThere = (await state.storage.size(sessionName(id), { signal })) !== null
  // Nobody can hold it any more: what is left goes by the record that is there.
  if (!isThere && (await isExpired(state, id, signal))) return true
  if (await isKept(state, id, signal)) return false
  const name = expiredName(id, state.ambient.randomBytes(16).toString('hex'))
  try {
    await record(state, name, id, reason, signal)
    // A record in an epoch that has ended would explain nothing.
    await requireCurrentEpoch(state, signal)
    // Only now does no hold that is granted come too late for this look.
    if (!(await isKept(state, id, signal))) return true
  } catch (error) {
    await takeBack(state, name)
    throw error
  }
  await state.storage.delete(name)
  return false
}

/** After a failure, which is what a person must hear of: a prune finds what is left behind, once this process is gone. */
async function takeBack(state: RepositoryState, name: string): Promise<void> {
  try {
    await tidy((signal) => state.storage.delete(name, { signal }))
  } catch (error) {
    if (!isRegainError(error)) throw error
    state.ambient.log('warning', `${name} could not be taken back: ${error.message}`)
  }
}

/** A hold of a point that does not count any more is one that came too late, and was not granted. */
async function isKept(state: RepositoryState, id: string, signal: AbortSignal): Promise<boolean> {
  return (await isHeld(state, id, signal)) && (await state.storage.size(sessionName(id), { signal })) !== null
}

async function record(
  state: RepositoryState,
  name: string,
  id: string,
  reason: string,
  signal: AbortSignal,
): Promise<void> {
  let commit = await commitOf(state, id, signal)
  if (!commit) {
    // A point that was lost. Should its session be there, no end of it may appear once that is deleted.
    await fenceSession(state, id, 'the point was given up')
    commit = await commitOf(state, id, signal)
  }
  const { startedAt: expiredAt, ...maker } = ownTrace(state.ambient)
  const expired: ExpiredRecord = {
    session: id,
    commit: commit?.sha256 ?? (await receiptHash(state, id, signal)),
    source: commit?.point.source ?? '',
    committedAt: commit?.point.committedAt ?? '',
    expiredAt,
    reason,
    ...maker,
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
