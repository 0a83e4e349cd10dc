import { isRegainError } from '../errors.ts'
import { mapBounded } from './bounded.ts'
import { readCommits } from './commits.ts'
import { lastComponent, PREFIX, REPOSITORY, sessionName } from './format/object-names.ts'
import { newestGeneration, readTombstones } from './generations.ts'
import type { RepositoryState } from './repository-state.ts'

/**
 * Where the store keeps objects immutable (docs/decisions/0020-object-lock.md): what points and logs consist of is locked
 * from its first moment (`keep`), and what stays is extended once a month. Without the lock of a month no point of that
 * month is committed.
 */
const EXTENSIONS_AT_ONCE = 16

/**
 * Of the first key epoch: the list of its KEKs, which is replaced when one comes or goes. The epoch opens without it; later
 * ones do not, so theirs are locked, and no KEK comes or goes until that ends.
 */
const FIRST_EPOCH_OBJECT = /^keys\/[0-9a-f]{32}-1\.json$/

/**
 * The last step before a commit: the first of a month extends all that points need; then the session itself, which the point
 * counts by. Nothing to do where nothing is immutable.
 */
export async function lockForCommit(state: RepositoryState, session: string, signal: AbortSignal): Promise<void> {
  const { immutability } = state.storage
  if (immutability === undefined) return
  if (!(await immutability.isExtended(REPOSITORY, { signal }))) await extendAll(state, signal)
  await immutability.extend(sessionName(session), { signal })
}

/** True while nobody can remove the object. */
export async function isLocked(state: RepositoryState, name: string, signal: AbortSignal): Promise<boolean> {
  return (await state.storage.immutability?.isLocked(name, { signal })) ?? false
}

/** False: its lock has not ended, and it is as it was. */
export async function deleteUnlessLocked(state: RepositoryState, name: string, signal?: AbortSignal): Promise<boolean> {
  try {
    await state.storage.delete(name, signal ? { signal } : {})
    return true
  } catch (error) {
    if (isRegainError(error, 'storage-locked')) return false
    throw error
  }
}

/** repository.json last: that it is extended says that all else is. Whoever dies before it leaves the work to the next. */
async function extendAll(state: RepositoryState, signal: AbortSignal): Promise<void> {
  const tombstones = await readTombstones(state, await newestGeneration(state, signal), signal)
  const points = new Set((await readCommits(state, { signal, damaged: () => undefined })).map(({ point }) => point.id))
  const names: string[] = []
  for await (const { name } of state.storage.list('', { signal }))
    if (name !== REPOSITORY && isNeeded(name, { points, tombstones: tombstones ?? new Set() })) names.push(name)
  await mapBounded(names, EXTENSIONS_AT_ONCE, (name) => extend(state, name, signal))
  await extend(state, REPOSITORY, signal)
}

/**
 * Everything that a restore cannot do without. Not the index, which can be made again from the packs, nor what lives for
 * minutes. Packs marked for removal are left to their end.
 */
function isNeeded(name: string, known: { points: ReadonlySet<string>; tombstones: ReadonlySet<string> }): boolean {
  const id = lastComponent(name)
  if (!name.includes('/')) return true
  if (name.startsWith(PREFIX.keys)) return !FIRST_EPOCH_OBJECT.test(name)
  if (name.startsWith(PREFIX.packs)) return !known.tombstones.has(id)
  if (name.startsWith(PREFIX.log)) return /^log\/[^/]+\/(?:segments|histories)\//.test(name)
  return (
    [PREFIX.sessions, PREFIX.ends, PREFIX.receipts].some((prefix) => name.startsWith(prefix)) && known.points.has(id)
  )
}

async function extend(state: RepositoryState, name: string, signal: AbortSignal): Promise<void> {
  try {
    await state.storage.immutability?.extend(name, { signal })
  } catch (error) {
    // Removed by a collector since it was listed, so no point needs it.
    if (!isRegainError(error, 'storage-not-found')) throw error
  }
}
