import { createHash } from 'node:crypto'
import { isRegainError, RegainError } from '../errors.ts'
import { mapBounded } from './bounded.ts'
import { type ChunkLocation, ChunkTable } from './chunk-table.ts'
import type { GroupPlace } from './compute/messages.ts'
import { isDamage } from './damage.ts'
import { decodeIndexSegment, type IndexedPack } from './format/index-segment.ts'
import { lastComponent, PREFIX } from './format/object-names.ts'
import { decodeDirectory } from './format/pack.ts'
import { openObject } from './format/sealed.ts'
import type { RepositoryState } from './repository-state.ts'

const READS_AT_ONCE = 8

export interface KnownPack {
  /** Hex. */
  name: string
  sizeBytes: number
  groups: GroupPlace[]
}

export interface ChunkPlace extends ChunkLocation {
  knownPack: KnownPack
  groupPlace: GroupPlace
}

/** What the repository's index segments say, held in memory: some 35 bytes a chunk. */
export class ChunkIndex {
  readonly table: ChunkTable
  private readonly packs: KnownPack[]

  constructor(table: ChunkTable, packs: KnownPack[]) {
    this.table = table
    this.packs = packs
  }

  has(id: Uint8Array): boolean {
    return this.table.has(id)
  }

  locate(id: Uint8Array): ChunkPlace | null {
    const location = this.table.get(id)
    if (!location) return null
    const knownPack = this.packs[location.pack] as KnownPack
    return { ...location, knownPack, groupPlace: knownPack.groups[location.group] as GroupPlace }
  }

  packCount(): number {
    return this.packs.length
  }
}

/**
 * Reads every index segment, **then** lists the packs (the order that facts of the removal protocol demand), and keeps
 * only chunks in packs that are listed with the size the index gives and that `excluded` does not name.
 * Throws `repository-damaged` for an unreadable segment unless `unreadable` takes it.
 */
export async function loadChunkIndex(
  state: RepositoryState,
  options: {
    signal?: AbortSignal
    excluded?: ReadonlySet<string>
    unreadable?(segment: string, error: RegainError): void
  } = {},
): Promise<ChunkIndex> {
  const indexed = await readSegments(state, options)
  const listed = await listPacks(state, options.signal)
  const usable = indexed.filter((pack) => {
    const name = pack.name.toString('hex')
    return listed.get(name) === pack.sizeBytes && !options.excluded?.has(name)
  })
  return build(usable)
}

/** Hex name to size of every pack there is. */
export async function listPacks(state: RepositoryState, signal?: AbortSignal): Promise<Map<string, number>> {
  const listed = new Map<string, number>()
  for await (const object of state.storage.list(PREFIX.packs, signal ? { signal } : {}))
    listed.set(lastComponent(object.name), object.size)
  return listed
}

export async function readSegments(
  state: RepositoryState,
  options: { signal?: AbortSignal; unreadable?(segment: string, error: RegainError): void },
): Promise<IndexedPack[]> {
  const call = options.signal ? { signal: options.signal } : {}
  const names: string[] = []
  for await (const object of state.storage.list(PREFIX.index, call)) names.push(object.name)
  const segments = await mapBounded(names, READS_AT_ONCE, async (name) => {
    try {
      const sealed = await state.storage.get(name, undefined, call)
      if (createHash('sha256').update(sealed).digest('hex') !== lastComponent(name))
        throw new RegainError('repository-damaged', `${name} was changed: its bytes no longer give its name.`)
      return decodeIndexSegment(openObject(state.keys, 'I', '', sealed, name), name)
    } catch (error) {
      // Merged into another segment meanwhile: that one was or will be read, or its chunks are simply not reused.
      if (isRegainError(error, 'storage-not-found')) return []
      if (!isDamage(error) || !options.unreadable) throw error
      options.unreadable(name, error)
      return []
    }
  })
  return segments.flat()
}

function build(packs: readonly IndexedPack[]): ChunkIndex {
  const seen = new Set<string>()
  const known: KnownPack[] = []
  const decoded = []
  let chunks = 0
  for (const pack of packs) {
    const name = pack.name.toString('hex')
    if (seen.has(name)) continue
    seen.add(name)
    const groups = decodeDirectory(pack.directory, `the index entry of pack ${name}`)
    for (const group of groups) chunks += group.chunks.length
    decoded.push(groups)
    known.push({
      name,
      sizeBytes: pack.sizeBytes,
      groups: groups.map(({ offset, storedBytes, rawBytes, method }) => ({ offset, storedBytes, rawBytes, method })),
    })
  }
  const table = ChunkTable.create(chunks)
  decoded.forEach((groups, pack) => {
    groups.forEach((group, groupNumber) => {
      for (const chunk of group.chunks)
        table.add(chunk.id, { pack, group: groupNumber, offset: chunk.offset, length: chunk.length })
    })
  })
  return new ChunkIndex(table, known)
}
