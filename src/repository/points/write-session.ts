import { createHash } from 'node:crypto'
import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Point } from '../../model.ts'
import { tidy } from '../cleanup.ts'
import { endName, sessionName } from '../format/object-names.ts'
import { type EndRecord, sealRecord } from '../format/records.ts'
import { newestGeneration, readTombstones } from '../generations.ts'
import { requireCurrentEpoch } from '../keys/epochs.ts'
import type { ChunkIndex } from '../packs/chunk-index.ts'
import { loadReusable } from '../packs/reusable.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'
import { type Commit, readCommit, writeReceipt } from './commits.ts'
import { ownTrace } from './liveness.ts'

/**
 * The writer's steps of the removal protocol (docs/format.md, Writers). No lock, no clock: the session names the
 * tombstone generation it saw, and one create-if-absent object decides between commit and abort.
 *
 *   begin    1 newest generation g; create sessions/S naming g   2 list again: newer or gone -> start over
 *            3 T_g, then the index, then the packs: only what is indexed, listed and not in T_g may be reused
 *   upload   4 packs under fresh names, each sent once; index entries only after their packs (PackStore)
 *   commit   5 create ends/S = commit   6 sessions/S must still be there; only then is it a success
 */
const MAX_STARTS = 20
const COMMIT_ATTEMPTS = 5

export interface WriteSession {
  id: string
  /** What may be reused. */
  reusable: ChunkIndex
  /** Packs left out of it because they are marked for removal. */
  tombstones: number
}

export async function beginSession(state: RepositoryState, source: string, signal: AbortSignal): Promise<WriteSession> {
  if ((await state.storage.setRoomAside?.({ signal })) === false)
    state.ambient.log(
      'warning',
      `${state.storage.description} is so full that no room could be set aside for the removal of old data. Run: regain prune`,
    )
  for (let start = 0; start < MAX_STARTS; start++) {
    throwIfInterrupted(signal)
    const generation = await newestGeneration(state, signal)
    const id = state.ambient.randomBytes(16).toString('hex')
    if (!(await createSession(state, id, generation, source, signal))) continue
    try {
      const session = await settleSession(state, id, generation, signal)
      if (session) return session
    } catch (error) {
      await giveUpSession(state, id, 'it could not begin')
      throw error
    }
    // Nothing names this session but itself, and it has reused nothing: it may go without an end.
    await state.storage.delete(sessionName(id))
  }
  throw new RegainError(
    'storage-unavailable',
    `A backup could not begin: removal of old data overtook it ${MAX_STARTS} times in a row. Nothing was written.`,
  )
}

/** Steps 2 and 3. Null: a collector came between, start over. */
async function settleSession(
  state: RepositoryState,
  id: string,
  generation: number,
  signal: AbortSignal,
): Promise<WriteSession | null> {
  await requireCurrentEpoch(state, signal)
  if ((await newestGeneration(state, signal)) !== generation) return null
  const tombstones = await readTombstones(state, generation, signal)
  if (!tombstones) return null
  return { id, reusable: await loadReusable(state, { session: id, tombstones, signal }), tombstones: tombstones.size }
}

/** Steps 5 and 6. Rejects with `session-fenced` when a collector aborted the session: nothing of it counts. */
export async function commitSession(state: RepositoryState, point: Point): Promise<Commit> {
  const name = endName(point.id)
  const record: EndRecord = { session: point.id, end: 'commit', point }
  const sealed = sealRecord(state.keys, 'E', name, record, state.ambient.randomBytes(32))
  await createEnd(state, name, sealed)
  const commit = await readOwnEnd(state, point.id)
  if (!commit || (await state.storage.size(sessionName(point.id))) === null)
    throw new RegainError(
      'session-fenced',
      'The backup took so long that removal of old data ended it. Nothing of it is visible.',
    )
  const own = createHash('sha256').update(JSON.stringify(record)).digest('hex')
  if (commit.sha256 !== own) throw new RegainError('repository-damaged', `${name} is not what this backup wrote.`)
  await tryReceipt(state, commit)
  return commit
}

/** Whoever fenced the session in an epoch that began since left an end that can't be opened here: it is not the own one. */
async function readOwnEnd(state: RepositoryState, id: string): Promise<Commit | null> {
  try {
    return await readCommit(state, id)
  } catch (error) {
    if (!isDamage(error)) throw error
    await requireCurrentEpoch(state)
    throw error
  }
}

/** The point counts already, so its receipt can only be late: every next backup writes those that are missing. */
async function tryReceipt(state: RepositoryState, commit: Commit): Promise<void> {
  try {
    await writeReceipt(state, commit)
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    state.ambient.log('warning', `The receipt of recovery point ${commit.point.id} was not written: ${error.message}`)
  }
}

/**
 * Ends a session that will not commit and clears it away: first `ends/S` = aborted, then the session, then the end, so
 * that no un-ended session is ever removed. What it stored and indexed stays for the next backup to use.
 */
export async function abortSession(
  state: RepositoryState,
  id: string,
  reason: string,
  signal: AbortSignal,
): Promise<void> {
  const name = endName(id)
  const record: EndRecord = { session: id, end: 'aborted', reason }
  const sealed = sealRecord(state.keys, 'E', name, record, state.ambient.randomBytes(32))
  // A backup that found the store full must not be one that every prune waits for.
  await state.storage.create(name, sealed, { signal, fromReserve: true })
  const committed = (await readCommit(state, id, signal)) !== null
  // A commit whose session was fenced and cleared away counts for nothing, and never will: the session does not come back.
  if (committed && (await state.storage.size(sessionName(id), { signal })) !== null) return
  await state.storage.delete(sessionName(id), { signal })
  await state.storage.delete(name, { signal })
}

/** abortSession on the way out of a failure, which is what a person must hear of: a session left behind is fenced by the next collection. */
export async function giveUpSession(state: RepositoryState, id: string, reason: string): Promise<void> {
  try {
    await tidy((signal) => abortSession(state, id, reason, signal))
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    state.ambient.log('warning', `Session ${id} could not be cleared away: ${error.message}`)
  }
}

async function createSession(
  state: RepositoryState,
  id: string,
  generation: number,
  source: string,
  signal: AbortSignal,
): Promise<boolean> {
  const name = sessionName(id)
  const record = { session: id, generation, source, ...ownTrace(state.ambient) }
  const sealed = sealRecord(state.keys, 'S', name, record, state.ambient.randomBytes(32))
  try {
    return await state.storage.create(name, sealed, { signal })
  } catch (error) {
    // The outcome is unknown: never this name again. A session nobody uses is fenced by the next collection.
    if (error instanceof RegainError && error.code === 'storage-unavailable') return false
    if (error instanceof RegainError && error.code === 'interrupted') await giveUpSession(state, id, 'interrupted')
    throw error
  }
}

/** Repeating is safe: exactly one end per session exists, whoever made it. */
async function createEnd(state: RepositoryState, name: string, sealed: Buffer): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await state.storage.create(name, sealed, { keep: true })
      return
    } catch (error) {
      if (!(error instanceof RegainError) || error.code !== 'storage-unavailable' || attempt === COMMIT_ATTEMPTS)
        throw error
    }
  }
}
