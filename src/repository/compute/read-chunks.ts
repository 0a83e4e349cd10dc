import { type DomainKeys, ID_BYTES } from '../format/domain-keys.ts'
import type { ReadChunksJob, ReadChunksReply } from './messages.ts'
import { ChunksInOrder, type GroupOpener } from './open-groups.ts'
import type { Rooms } from './room.ts'

const PLACE_WORDS = 3

type Wanted = Pick<ReadChunksJob, 'source' | 'ids' | 'places'>

/** Chunks in memory, each proven by its id. One that is lost is named, so that the main thread finds another copy. */
export function readChunks(keys: DomainKeys, opener: GroupOpener, rooms: Rooms, job: ReadChunksJob): ReadChunksReply {
  const lengths = Array.from({ length: job.ids.length / ID_BYTES }, (_, n) => job.places[n * PLACE_WORDS + 2] as number)
  const out = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  const lost: number[] = []
  let at = 0
  let number = 0
  for (const bytes of openChunks(keys, opener, rooms, job)) {
    if (bytes) out.set(bytes, at)
    else lost.push(number)
    at += lengths[number++] as number
  }
  return { bytes: out.buffer, lost }
}

/** Each chunk's bytes, valid until the next one is asked for; null for one that is gone or damaged in this copy. */
export function* openChunks(
  keys: DomainKeys,
  opener: GroupOpener,
  rooms: Rooms,
  wanted: Wanted,
): Generator<Uint8Array | null> {
  const chunks = new ChunksInOrder(keys, opener, wanted, rooms)
  for (let chunk = 0; chunk < chunks.count; chunk++) {
    const bytes = chunks.get(chunk)
    yield typeof bytes === 'string' ? null : bytes
  }
}
