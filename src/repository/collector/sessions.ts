import { isRegainError } from '../../errors.ts'
import { endName, lastComponent, PREFIX, sessionName } from '../format/object-names.ts'
import { type EndRecord, openRecord, type SessionRecord, sealRecord } from '../format/records.ts'
import { type Gone, isSessionGone } from '../points/liveness.ts'
import { deleteUnlessLocked } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'

/** A session without an end. */
export interface OpenSession extends SessionRecord {
  gone: Gone | null
}

/** Sessions are listed **before** their ends, so that what ends meanwhile is at worst taken for open. */
export async function openSessions(state: RepositoryState, signal: AbortSignal): Promise<OpenSession[]> {
  const sessions: string[] = []
  for await (const { name } of state.storage.list(PREFIX.sessions, { signal })) sessions.push(lastComponent(name))
  const ended = new Set<string>()
  for await (const { name } of state.storage.list(PREFIX.ends, { signal })) ended.add(lastComponent(name))
  const open: OpenSession[] = []
  for (const id of sessions.sort()) {
    const record = ended.has(id) ? null : await readSession(state, id, signal)
    if (record) open.push({ ...record, gone: isSessionGone(state.ambient, record) })
  }
  return open
}

/**
 * Makes sure that an open session never commits. Whoever comes first makes its one end: false if that is the writer.
 */
export async function fenceSession(state: RepositoryState, id: string, reason: string): Promise<boolean> {
  const name = endName(id)
  const record: EndRecord = { session: id, end: 'aborted', reason }
  const sealed = sealRecord(state.keys, 'E', name, record, state.ambient.randomBytes(32))
  return state.storage.create(name, sealed, { fromReserve: true })
}

/** First the session, then its end: a writer that wakes up later may commit, and its point will not count. Only what was aborted. */
export async function clearAborted(state: RepositoryState, id: string, signal: AbortSignal): Promise<boolean> {
  const name = endName(id)
  try {
    const end = openRecord(state.keys, 'E', name, await state.storage.get(name, undefined, { signal }))
    if (end.end !== 'aborted') return false
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return false
    throw error
  }
  // It may have been about to commit, and locked it.
  return (await deleteUnlessLocked(state, sessionName(id))) && deleteUnlessLocked(state, name)
}

/** Null: gone. One that can't be read is of any age and saw nothing. */
async function readSession(state: RepositoryState, id: string, signal: AbortSignal): Promise<SessionRecord | null> {
  const name = sessionName(id)
  try {
    return openRecord(state.keys, 'S', name, await state.storage.get(name, undefined, { signal }))
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    if (!isDamage(error)) throw error
    return { session: id, generation: -1, source: '', startedAt: '' }
  }
}
