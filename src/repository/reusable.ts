import { buildIndex, type ChunkIndex, listPacks, readSegments, withoutIndex } from './chunk-index.ts'
import type { IndexedPack } from './format/index-segment.ts'
import { lastComponent, PREFIX } from './format/object-names.ts'
import { PackDirectories } from './pack-directories.ts'
import { PACKS_PER_SEGMENT, putIndexSegment } from './pack-store.ts'
import type { RepositoryState } from './repository-state.ts'

/**
 * What a writer may reuse: chunks in packs that are indexed, listed after the index was read, and not in its generation's
 * tombstones (the writer's step 3). Packs that a lost or damaged segment named are given a new one first, and the packs
 * are listed once more after it, so that this holds for them as for all others; otherwise all that they hold would be
 * stored again. Packs of another writer at work are left to it: they get their segment from it.
 */
export async function loadReusable(
  state: RepositoryState,
  request: { session: string; tombstones: ReadonlySet<string>; signal: AbortSignal },
): Promise<ChunkIndex> {
  const { session, tombstones, signal } = request
  let isDamaged = false
  const indexed = await readSegments(state, {
    signal,
    unreadable: (segment, error) => {
      isDamaged = true
      state.ambient.log('warning', error.message, { object: segment })
    },
  })
  const listed = await listPacks(state, signal)
  for (const name of tombstones) listed.delete(name)
  const uncovered = withoutIndex(listed, indexed)
  if (uncovered.length === 0) return buildIndex(listed, indexed)
  if (!isDamaged && (await isAnotherAtWork(state, session, signal))) return buildIndex(listed, indexed)

  const adopted = await new PackDirectories(state, { signal }).read(uncovered)
  await indexPacks(state, adopted, signal)
  state.ambient.log('warning', `${adopted.length} packs that no index segment named are in the index again.`)
  const listedAfter = await listPacks(state, signal)
  for (const name of tombstones) listedAfter.delete(name)
  return buildIndex(listedAfter, [...indexed, ...adopted])
}

/** New segments for packs that are there: all durable when it resolves. */
export async function indexPacks(
  state: RepositoryState,
  packs: readonly IndexedPack[],
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < packs.length; at += PACKS_PER_SEGMENT)
    await putIndexSegment(state, packs.slice(at, at + PACKS_PER_SEGMENT), signal)
}

/** Sessions are listed first: one that ends in between is then seen with its end. */
export async function isAnotherAtWork(state: RepositoryState, own: string, signal: AbortSignal): Promise<boolean> {
  const underWay = new Set<string>()
  for await (const { name } of state.storage.list(PREFIX.sessions, { signal })) underWay.add(lastComponent(name))
  for await (const { name } of state.storage.list(PREFIX.ends, { signal })) underWay.delete(lastComponent(name))
  underWay.delete(own)
  return underWay.size > 0
}
