import { type DomainKeys, ID_BYTES } from '../format/domain-keys.ts'
import type { ReadChunksJob, ReadChunksReply } from './messages.ts'
import { ChunksInOrder, type GroupOpener } from './open-groups.ts'
import type { Rooms } from './room.ts'

const PLACE_WORDS = 3

/** Chunks in memory, each proven by its id. One that is lost is named, so that the main thread finds another copy. */
export function readChunks(keys: DomainKeys, opener: GroupOpener, rooms: Rooms, job: ReadChunksJob): ReadChunksReply {
  const lengths = Array.from({ length: job.ids.length / ID_BYTES }, (_, n) => job.places[n * PLACE_WORDS + 2] as number)
  const out = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  const lost: number[] = []
  let at = 0
  const chunks = new ChunksInOrder(keys, opener, job, rooms)
  for (const [number, length] of lengths.entries()) {
    const bytes = chunks.get(number)
    if (typeof bytes === 'string') lost.push(number)
    else out.set(bytes, at)
    at += length
  }
  return { bytes: out.buffer, lost }
}
