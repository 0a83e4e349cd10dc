import { createHash } from 'node:crypto'
import { isRegainError, RegainError } from '../../errors.ts'
import { mapBounded } from '../bounded.ts'
import type { GroupPlace } from '../compute/messages.ts'
import { decodeIndexSegment, type IndexedPack } from '../format/index-segment.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import { chunkCount, decodeDirectory } from '../format/pack.ts'
import { openObject } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'
import { type ChunkLocation, ChunkTable } from './chunk-table.ts'
import type { PackDirectories } from './pack-directories.ts'

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
 * Throws `repository-damaged` for an unreadable segment unless `unreadable` takes it. Packs that no segment names are
 * left out unless `unindexed` is there to read their own directories.
 */
export async function loadChunkIndex(
  state: RepositoryState,
  options: {
    signal?: AbortSignal
    excluded?: ReadonlySet<string>
    unreadable?(segment: string, error: RegainError): void
    unindexed?: PackDirectories
    fromCache?: boolean
  } = {},
): Promise<ChunkIndex> {
  const indexed = await readSegments(state, options)
  const listed = await listPacks(state, options.signal)
  for (const name of options.excluded ?? []) listed.delete(name)
  const unindexed = (await options.unindexed?.read(withoutIndex(listed, indexed))) ?? []
  return buildIndex(listed, [...indexed, ...unindexed])
}

/** Of packs that are listed (hex name to size) with the size that they should have. */
export function buildIndex(listed: ReadonlyMap<string, number>, packs: readonly IndexedPack[]): ChunkIndex {
  return build(packs.filter((pack) => listed.get(pack.name.toString('hex')) === pack.sizeBytes))
}

/** Listed packs that no segment names. As a rule none, or those of a backup under way. */
export function withoutIndex(
  listed: ReadonlyMap<string, number>,
  indexed: readonly IndexedPack[],
): [name: string, sizeBytes: number][] {
  const named = new Set(indexed.map((pack) => pack.name.toString('hex')))
  return [...listed].filter(([name]) => !named.has(name) && /^[0-9a-f]{64}$/.test(name))
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
  options: {
    signal?: AbortSignal
    unreadable?(segment: string, error: RegainError): void
    /** This machine's copies of listed segments will do: for who reads or adds, not for who proves or removes. */
    fromCache?: boolean
  },
): Promise<IndexedPack[]> {
  const call = options.signal ? { signal: options.signal } : {}
  const names: string[] = []
  for await (const object of state.storage.list(PREFIX.index, call)) names.push(object.name)
  const segments = await mapBounded(names, READS_AT_ONCE, async (name) => {
    try {
      const read = options.fromCache ? readSegmentOrCopy : readSegment
      return await read(state, name, options.signal)
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

export async function readSegment(state: RepositoryState, name: string, signal?: AbortSignal): Promise<IndexedPack[]> {
  return openSegment(state, name, await fetchSegment(state, name, signal))
}

async function readSegmentOrCopy(state: RepositoryState, name: string, signal?: AbortSignal): Promise<IndexedPack[]> {
  const { cache } = state.storage
  const copy = await cache?.get(name, '')
  if (copy && isSegment(name, copy)) return openSegment(state, name, copy)
  // A copy that is not what it was is replaced.
  const sealed = await fetchSegment(state, name, signal)
  await cache?.keep(name, '', sealed)
  return openSegment(state, name, sealed)
}

async function fetchSegment(state: RepositoryState, name: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const sealed = await state.storage.get(name, undefined, signal ? { signal } : {})
  if (isSegment(name, sealed)) return sealed
  throw new RegainError('repository-damaged', `${name} was changed: its bytes no longer give its name.`)
}

function isSegment(name: string, sealed: Buffer): boolean {
  return createHash('sha256').update(sealed).digest('hex') === lastComponent(name)
}

function openSegment(state: RepositoryState, name: string, sealed: Buffer): IndexedPack[] {
  return decodeIndexSegment(openObject(state.keys, 'I', '', sealed, name), name)
}

/** Of several copies of a chunk, the one in the first pack is located. */
function build(packs: readonly IndexedPack[]): ChunkIndex {
  const distinct = [...new Map(packs.map((pack) => [pack.name.toString('hex'), pack]))]
  const table = ChunkTable.create(distinct.reduce((sum, [, pack]) => sum + chunkCount(pack.directory), 0))
  // One pack at a time: as objects the chunks of all of them would take many times what the table takes.
  const known = distinct.map(([name, pack], number): KnownPack => {
    const groups = decodeDirectory(pack.directory, `the index entry of pack ${name}`)
    groups.forEach((group, groupNumber) => {
      for (const chunk of group.chunks)
        table.add(chunk.id, { pack: number, group: groupNumber, offset: chunk.offset, length: chunk.length })
    })
    return {
      name,
      sizeBytes: pack.sizeBytes,
      groups: groups.map(({ offset, storedBytes, rawBytes, method }) => ({ offset, storedBytes, rawBytes, method })),
    }
  })
  return new ChunkIndex(table, known)
}
