import { packName } from '../format/object-names.ts'
import { decodeDirectory, type Group } from '../format/pack.ts'
import { buildIndex, type ChunkIndex, listPacks, readSegments } from '../packs/chunk-index.ts'
import type { RepositoryState } from '../repository-state.ts'

/** A pack that is listed. */
export interface CatalogPack {
  /** Hex. */
  name: string
  sizeBytes: number
  /** Marked for removal. */
  marked: boolean
  /** Of the index; null: no segment names the pack. */
  directory: Buffer | null
}

/** Every pack there is, and which copy of each chunk is the one to keep. */
export interface Catalog {
  packs: CatalogPack[]
  /** Of packs that are indexed and have the size that the index says; where there is a copy that is not marked, it names that. */
  index: ChunkIndex
  /** By number in `index`. */
  byNumber: CatalogPack[]
}

/**
 * Reads the index, **then** lists the packs. An index segment that can't be read stops it: what that names might be needed.
 * (One that another collector merges away meanwhile may be missed. What it names then looks unindexed, or the mark misses it and
 * fails; nothing goes for that reason alone: remove-packs.ts reads the directories of packs that look unindexed.)
 */
export async function readCatalog(
  state: RepositoryState,
  tombstones: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Catalog> {
  const indexed = new Map((await readSegments(state, { signal })).map((pack) => [pack.name.toString('hex'), pack]))
  const listed = await listPacks(state, signal)
  const packs: CatalogPack[] = []
  for (const [name, sizeBytes] of listed) {
    const directory = indexed.get(name)?.directory ?? null
    packs.push({ name, sizeBytes, marked: tombstones.has(name), directory })
  }
  packs.sort(keptFirst)
  const byNumber = packs.filter(({ name, sizeBytes }) => indexed.get(name)?.sizeBytes === sizeBytes)
  const inOrder = byNumber.flatMap(({ name }) => indexed.get(name) ?? [])
  const index = buildIndex(listed, inOrder)
  return { packs, index, byNumber }
}

/** What is not marked before what is; then the same order for everyone, so that collectors tend to keep the same copies. */
function keptFirst(a: CatalogPack, b: CatalogPack): number {
  if (a.marked !== b.marked) return a.marked ? 1 : -1
  return b.sizeBytes - a.sizeBytes || (a.name < b.name ? -1 : 1)
}

export function groupsOf(pack: CatalogPack): Group[] {
  return pack.directory ? decodeDirectory(pack.directory, `the index entry of ${packName(pack.name)}`) : []
}
