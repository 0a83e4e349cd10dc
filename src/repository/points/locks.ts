import { isRegainError, RegainError } from '../../errors.ts'
import type { LogRange, StartPoint, Unneeded } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { lastComponent, PREFIX, REPOSITORY, sessionName } from '../format/object-names.ts'
import { newestGeneration, readGeneration } from '../generations.ts'
import type { RepositoryState } from '../repository-state.ts'
import { readCommits } from './commits.ts'

/**
 * Where the store keeps objects immutable (docs/decisions/0020-object-lock.md): what points and logs consist of is locked
 * from its first moment (`keep`), and what the policy keeps is extended once a month. Without the lock of a month no point of
 * that month is committed.
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
export async function lockForCommit(
  state: RepositoryState,
  session: string,
  request: Pick<StartPoint, 'signal' | 'unneeded'>,
): Promise<void> {
  const { immutability } = state.storage
  if (immutability === undefined) return
  const { signal } = request
  if (!(await immutability.isExtended(REPOSITORY, { signal })))
    await extendAll(state, await unneededBy(state, request), signal)
  await immutability.extend(sessionName(session), { signal })
}

/** Until when nobody can remove the object; 0: it can be removed. */
export async function lockedUntil(state: RepositoryState, name: string, signal: AbortSignal): Promise<number> {
  return (await state.storage.immutability?.lockedUntil(name, { signal })) ?? 0
}

/** ' until 2030-03-03', ' until 2030-04-03 at the latest' if they differ; empty where that is not known. For people. */
export function untilText(locksMs: readonly number[]): string {
  // A store may keep locks that this machine is not configured to ask for.
  const known = locksMs.filter((untilMs) => untilMs > 0)
  if (known.length === 0) return ''
  const latest = known.reduce((a, b) => Math.max(a, b))
  return ` until ${new Date(latest).toISOString().slice(0, 10)}${known.some((one) => one < latest) ? ' at the latest' : ''}`
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

/** Where that can't be told all is needed: what is locked for too long is not lost. */
async function unneededBy(state: RepositoryState, { unneeded }: Pick<StartPoint, 'unneeded'>): Promise<Unneeded> {
  try {
    return (await unneeded?.()) ?? { points: [], log: [] }
  } catch (error) {
    if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
    state.ambient.log(
      'warning',
      `What the rules for retention do not keep could not be told, so it is locked for another month too: ${error.message}`,
    )
    return { points: [], log: [] }
  }
}

/** repository.json last: that it is extended says that all else is. Whoever dies before it leaves the work to the next. */
async function extendAll(state: RepositoryState, { points: given, log }: Unneeded, signal: AbortSignal): Promise<void> {
  const generation = await readGeneration(state, await newestGeneration(state, signal), signal)
  // Where all are marked, that says nothing about which will go.
  const tombstones = generation === null || generation.isAll ? new Set<string>() : generation.packs
  const commits = await readCommits(state, { signal, damaged: () => undefined })
  const unneeded = new Set(given)
  const points = new Set(commits.map(({ point }) => point.id).filter((id) => !unneeded.has(id)))
  const names: string[] = []
  for await (const { name } of state.storage.list('', { signal }))
    if (name !== REPOSITORY && isNeeded(name, { points, tombstones, log })) names.push(name)
  await mapBounded(names, EXTENSIONS_AT_ONCE, (name) => extend(state, name, signal))
  await extend(state, REPOSITORY, signal)
}

/**
 * Everything that a restore cannot do without. Not the index, which can be made again from the packs, nor what lives for
 * minutes. Packs marked for removal are left to their end.
 */
function isNeeded(
  name: string,
  known: { points: ReadonlySet<string>; tombstones: ReadonlySet<string>; log: readonly LogRange[] },
): boolean {
  const id = lastComponent(name)
  if (!name.includes('/')) return true
  if (name.startsWith(PREFIX.keys)) return !FIRST_EPOCH_OBJECT.test(name)
  if (name.startsWith(PREFIX.packs)) return !known.tombstones.has(id)
  if (name.startsWith(PREFIX.log)) return isNeededLog(name, known.log)
  return (
    [PREFIX.sessions, PREFIX.ends, PREFIX.receipts].some((prefix) => name.startsWith(prefix)) && known.points.has(id)
  )
}

function isNeededLog(name: string, unneeded: readonly LogRange[]): boolean {
  const [, source, kind, branch, segment = ''] = name.split('/')
  if (kind !== 'segments') return kind === 'histories'
  return !unneeded.some(
    (range) => range.source === source && range.branch === branch && range.from <= segment && segment < range.to,
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
