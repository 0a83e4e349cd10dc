import type { Entry } from '../../model.ts'
import { chunkIds, contentBytes } from '../listing/listing-reader.ts'
import type { Copies } from '../packs/copies.ts'

/** What a restore of a point into an empty directory reads of the store and writes, without holes. */
export interface PointSize {
  readBytes: number
  writeBytes: number
}

/**
 * Walks a listing and looks every chunk up; reads no content. A group of a pack that several chunks are in is read once; how reads are
 * joined over gaps, and what is read again because memory is bounded, is not counted.
 */
export async function measurePoint(
  entries: AsyncIterable<Entry>,
  copies: Copies,
  readChunk: (id: Uint8Array) => Promise<Buffer>,
): Promise<PointSize> {
  const size: PointSize = { readBytes: 0, writeBytes: 0 }
  const counted = new Map<string, Set<number>>()
  for await (const entry of entries) {
    if (entry.type !== 'file' || entry.hardLink !== undefined) continue
    size.writeBytes += contentBytes(entry)
    for await (const id of chunkIds(readChunk, entry)) {
      const place = copies.locate(id)
      if (place === null) continue
      let groups = counted.get(place.knownPack.name)
      if (groups === undefined) {
        groups = new Set()
        counted.set(place.knownPack.name, groups)
      }
      if (groups.has(place.group)) continue
      groups.add(place.group)
      size.readBytes += place.groupPlace.storedBytes
    }
  }
  return size
}
