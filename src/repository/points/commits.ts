import { isRegainError, RegainError } from '../../errors.ts'
import type { Point } from '../../model.ts'
import { mapBounded } from '../bounded.ts'
import { endName, lastComponent, PREFIX, receiptName, sessionName } from '../format/object-names.ts'
import { openHashedRecord, openRecord, sealRecord } from '../format/records.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage, isLoss } from '../verify/damage.ts'
import { expiredNames, saysExpired } from './expired.ts'

const READS_AT_ONCE = 16

export interface Commit {
  point: Point
  /** SHA-256 (hex) of the commit object's plaintext: it stays when the object is sealed anew under another epoch. */
  sha256: string
}

/**
 * The points that count: `ends/S` = commit **and** `sessions/S` exists. Ends are listed first, sessions after them, so
 * that an expiry under way (which deletes the session first) never shows a point that is half gone.
 */
export async function readCommits(state: RepositoryState, options: ReadEndsOptions = {}): Promise<Commit[]> {
  return (await readEnds(state, options)).commits
}

interface ReadEndsOptions {
  signal?: AbortSignal
  /** Hears of commits that can't be read, and they are left out; else they are thrown. */
  damaged?(name: string, error: RegainError): void
}

export interface Ends {
  commits: Commit[]
  /** Sessions that were aborted and are still there. */
  aborted: string[]
  /** Ends whose session is gone. It never comes back, so they never count again. */
  orphans: string[]
}

/** Like readCommits, with all other ends there are. */
export async function readEnds(state: RepositoryState, options: ReadEndsOptions = {}): Promise<Ends> {
  const call = options.signal ? { signal: options.signal } : {}
  const ends: string[] = []
  for await (const object of state.storage.list(PREFIX.ends, call)) ends.push(lastComponent(object.name))
  const sessions = new Set<string>()
  for await (const object of state.storage.list(PREFIX.sessions, call)) sessions.add(lastComponent(object.name))
  const ended = ends.filter((id) => sessions.has(id))
  const damaged = new Set<string>()
  const commits = await mapBounded(ended, READS_AT_ONCE, async (id) => {
    try {
      return await readCommit(state, id, options.signal)
    } catch (error) {
      if (!isDamage(error) || !options.damaged) throw error
      options.damaged(endName(id), error)
      damaged.add(id)
      return null
    }
  })
  return {
    commits: commits
      .filter((commit) => commit !== null)
      .sort((a, b) => a.point.committedAt.localeCompare(b.point.committedAt) || a.point.id.localeCompare(b.point.id)),
    aborted: ended.filter((id, index) => commits[index] === null && !damaged.has(id)),
    orphans: ends.filter((id) => !sessions.has(id)),
  }
}

/** Null if the session was aborted or its end is gone. Does not look for the session: see `counts`. */
export async function readCommit(state: RepositoryState, id: string, signal?: AbortSignal): Promise<Commit | null> {
  const name = endName(id)
  let sealed: Buffer
  try {
    sealed = await state.storage.get(name, undefined, signal ? { signal } : {})
  } catch (error) {
    if (error instanceof RegainError && error.code === 'storage-not-found') return null
    throw error
  }
  const { record: end, sha256 } = openHashedRecord(state.keys, 'E', name, sealed)
  if (end.session !== id || (end.end === 'commit' && end.point.id !== id))
    throw new RegainError('repository-damaged', `${name} speaks of another session.`)
  if (end.end === 'aborted') return null
  return { point: end.point, sha256 }
}

/** Whether the point counts at this moment. */
export async function counts(state: RepositoryState, id: string, signal?: AbortSignal): Promise<boolean> {
  const call = signal ? { signal } : {}
  return (
    (await state.storage.size(endName(id), call)) !== null && (await state.storage.size(sessionName(id), call)) !== null
  )
}

/** Looked for in this order: the record of a removal is there before the point stops to count. */
export async function standing(state: RepositoryState, id: string): Promise<'counts' | 'expired' | 'gone'> {
  if (await counts(state, id)) return 'counts'
  // Opened, because anyone who can write to the store could put a file of that name there.
  return (await saysExpired(state, id)) ? 'expired' : 'gone'
}

/**
 * Written after a commit, and for one whose writer died before it could: lets verification tell a lost commit from none.
 * False: it was there.
 */
export async function writeReceipt(state: RepositoryState, commit: Commit, signal?: AbortSignal): Promise<boolean> {
  const name = receiptName(commit.point.id)
  const record = { session: commit.point.id, commit: commit.sha256 }
  return state.storage.create(name, sealRecord(state.keys, 'R', name, record, state.ambient.randomBytes(32)), {
    keep: true,
    ...(signal ? { signal } : {}),
  })
}

/** Puts a receipt in the place of one that is damaged, or missing; one that can be read stays as it is. Within a session. */
export async function renewReceipt(state: RepositoryState, commit: Commit, signal: AbortSignal): Promise<void> {
  const name = receiptName(commit.point.id)
  try {
    openRecord(state.keys, 'R', name, await state.storage.get(name, undefined, { signal }))
    return
  } catch (error) {
    if (!isLoss(error)) throw error
  }
  if ((await expiredNames(state, signal)).has(commit.point.id)) return
  try {
    // A damaged one is no receipt, and the new one is made only if there is none.
    await state.storage.delete(name, { signal })
  } catch (error) {
    if (isRegainError(error, 'storage-locked')) return
    throw error
  }
  await writeReceipt(state, commit, signal)
}

/** Of all points that were ever known to be committed. */
export async function receiptIds(state: RepositoryState, signal?: AbortSignal): Promise<Set<string>> {
  const receipts = new Set<string>()
  for await (const object of state.storage.list(PREFIX.receipts, signal ? { signal } : {}))
    receipts.add(lastComponent(object.name))
  return receipts
}

/**
 * Gives each point that counts its receipt, if it has none. Only within a session: while it has no end, no record of an
 * expired point is cleared away, so an expiry that came between is seen, or its receipt removed again by the next prune.
 */
export async function completeReceipts(
  state: RepositoryState,
  commits: readonly Commit[],
  signal: AbortSignal,
): Promise<void> {
  const receipts = await receiptIds(state, signal)
  for (const commit of commits) {
    const { id } = commit.point
    if (receipts.has(id) || (await expiredNames(state, signal)).has(id)) continue
    const isOwn = await writeReceipt(state, commit, signal)
    // Asleep before it was written, the writer may have been fenced, the point removed and the record of that forgotten.
    if (isOwn && !(await counts(state, id, signal))) await state.storage.delete(receiptName(id), { signal })
  }
}
