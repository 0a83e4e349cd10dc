import type { RegainError } from '../../errors.ts'
import type { IndexedPack } from '../format/index-segment.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import type { RepositoryState } from '../repository-state.ts'
import { buildIndex, type ChunkIndex, listPacks, readSegments, withoutIndex } from './chunk-index.ts'
import { PackDirectories } from './pack-directories.ts'
import { putIndexSegment, segments } from './pack-store.ts'

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
  const first = await look(state, tombstones, signal)
  if (first.uncovered.length === 0) return buildIndex(first.listed, first.indexed)
  // A segment that another process merged away between listing and reading is missed: the one that replaced it is there now.
  const { indexed, listed, uncovered, damaged } = await look(state, tombstones, signal)
  for (const [segment, { message }] of damaged) state.ambient.log('warning', message, { object: segment })
  if (uncovered.length === 0) return buildIndex(listed, indexed)
  if (damaged.size === 0 && (await isAnotherAtWork(state, session, signal))) return buildIndex(listed, indexed)

  const adopted = await new PackDirectories(state, { signal }).read(uncovered)
  await indexPacks(state, adopted, signal)
  state.ambient.log('warning', `${adopted.length} packs that no index segment named are in the index again.`)
  return buildIndex(await listUnmarked(state, tombstones, signal), [...indexed, ...adopted])
}

interface Look {
  indexed: IndexedPack[]
  /** Hex name to size, without tombstones. */
  listed: ReadonlyMap<string, number>
  uncovered: [name: string, sizeBytes: number][]
  damaged: ReadonlyMap<string, RegainError>
}

/** Index, **then** packs. */
async function look(state: RepositoryState, tombstones: ReadonlySet<string>, signal: AbortSignal): Promise<Look> {
  const damaged = new Map<string, RegainError>()
  const indexed = await readSegments(state, {
    signal,
    fromCache: true,
    unreadable: (segment, error) => void damaged.set(segment, error),
  })
  const listed = await listUnmarked(state, tombstones, signal)
  return { indexed, listed, uncovered: withoutIndex(listed, indexed), damaged }
}

async function listUnmarked(
  state: RepositoryState,
  tombstones: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const listed = await listPacks(state, signal)
  for (const name of tombstones) listed.delete(name)
  return listed
}

/** New segments for packs that are there: all durable when it resolves. */
export async function indexPacks(
  state: RepositoryState,
  packs: readonly IndexedPack[],
  signal: AbortSignal,
): Promise<void> {
  for (const segment of segments(packs)) await putIndexSegment(state, segment, signal)
}

/** Sessions are listed first: one that ends in between is then seen with its end. */
export async function isAnotherAtWork(state: RepositoryState, own: string, signal: AbortSignal): Promise<boolean> {
  const underWay = new Set<string>()
  for await (const { name } of state.storage.list(PREFIX.sessions, { signal })) underWay.add(lastComponent(name))
  for await (const { name } of state.storage.list(PREFIX.ends, { signal })) underWay.delete(lastComponent(name))
  underWay.delete(own)
  return underWay.size > 0
}
