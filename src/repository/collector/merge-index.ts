import { isRegainError } from '../../errors.ts'
import { mapBounded } from '../bounded.ts'
import type { IndexedPack } from '../format/index-segment.ts'
import { PREFIX } from '../format/object-names.ts'
import { listPacks, readSegment } from '../packs/chunk-index.ts'
import { putIndexSegment } from '../packs/pack-store.ts'
import type { RepositoryState } from '../repository-state.ts'

/** Segments of one tier are merged once there are so many of them: each byte is written again a few times in its life. */
const MERGE_AT = 8
/** Upper ends in bytes; what is larger is left as it is unless much of it is of packs that are gone. */
const TIERS = [64 * 1024, 1024 ** 2, 16 * 1024 ** 2]
/** A merged segment ends at this, so that none grows without end. */
const MAX_SEGMENT_BYTES = 32 * 1024 ** 2
const STALE_SHARE = 0.25
const READS_AT_ONCE = 8

interface Segment {
  name: string
  size: number
}

/**
 * Merges index segments: reads them, **then** lists the packs, puts the merged ones without what is gone (a pack that is named
 * was there before, so one that is not listed now is gone for ever), then deletes the old. Resolves with the bytes it freed, which
 * may be fewer than none. `looksForGone`: whether segments may name many packs that are gone.
 */
export async function mergeIndex(
  state: RepositoryState,
  options: { looksForGone: boolean; signal: AbortSignal },
): Promise<number> {
  const { signal } = options
  const segments: Segment[] = []
  for await (const { name, size } of state.storage.list(PREFIX.index, { signal })) segments.push({ name, size })
  const crowded = new Set(TIERS.flatMap((_, tier) => crowdOf(segments, tier)))
  const candidates = options.looksForGone ? segments : [...crowded]
  if (candidates.length === 0) return 0
  const read = await mapBounded(candidates, READS_AT_ONCE, async (segment) => ({
    segment,
    packs: await readIfThere(state, segment.name, signal),
  }))
  const listed = await listPacks(state, signal)
  const isThere = (pack: IndexedPack) => listed.has(pack.name.toString('hex'))
  const chosen = read.filter(
    ({ segment, packs }) =>
      packs && (crowded.has(segment) || packs.filter(isThere).length <= packs.length * (1 - STALE_SHARE)),
  )
  const merged = new Map<string, IndexedPack>()
  for (const { packs } of chosen)
    for (const pack of packs ?? []) if (isThere(pack)) merged.set(pack.name.toString('hex'), pack)
  let freed = 0
  for (const packs of bySize([...merged.values()])) freed -= await putIndexSegment(state, packs, signal)
  for (const { segment } of chosen) {
    await state.storage.delete(segment.name, { signal })
    freed += segment.size
  }
  return freed
}

function crowdOf(segments: readonly Segment[], tier: number): Segment[] {
  const from = TIERS[tier - 1] ?? 0
  const crowd = segments.filter(({ size }) => size > from && size <= (TIERS[tier] as number))
  return crowd.length >= MERGE_AT ? crowd : []
}

/** Null: another collector merged it. */
async function readIfThere(state: RepositoryState, name: string, signal: AbortSignal): Promise<IndexedPack[] | null> {
  try {
    return await readSegment(state, name, signal)
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    throw error
  }
}

function* bySize(packs: readonly IndexedPack[]): Generator<IndexedPack[]> {
  let group: IndexedPack[] = []
  let bytes = 0
  for (const pack of packs) {
    group.push(pack)
    bytes += pack.directory.length
    if (bytes < MAX_SEGMENT_BYTES) continue
    yield group
    group = []
    bytes = 0
  }
  if (group.length > 0) yield group
}
