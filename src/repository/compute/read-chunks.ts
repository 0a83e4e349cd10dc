import { isLoss } from '../damage.ts'
import { type DomainKeys, ID_BYTES } from '../format/domain-keys.ts'
import type { ReadChunksJob, ReadChunksReply } from './messages.ts'
import { type GroupOpener, isChunk } from './open-groups.ts'

const PLACE_WORDS = 3

type Wanted = Pick<ReadChunksJob, 'source' | 'ids' | 'places'>

/** Chunks in memory, each proven by its id. One that is lost is named, so that the main thread finds another copy. */
export function readChunks(keys: DomainKeys, opener: GroupOpener, job: ReadChunksJob): ReadChunksReply {
  const chunks = openChunks(keys, opener, job)
  const lengths = chunks.map((_, chunk) => job.places[chunk * PLACE_WORDS + 2] as number)
  const out = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  const lost: number[] = []
  let at = 0
  for (const [number, bytes] of chunks.entries()) {
    if (bytes) out.set(bytes, at)
    else lost.push(number)
    at += lengths[number] as number
  }
  return { bytes: out.buffer, lost }
}

/** Views of the chunks; null for one that is gone or damaged in this copy. */
export function openChunks(keys: DomainKeys, opener: GroupOpener, wanted: Wanted): (Uint8Array | null)[] {
  const groups = openGroups(opener, wanted)
  return Array.from({ length: wanted.ids.length / ID_BYTES }, (_, chunk) => {
    const [group, offset, length] = wanted.places.subarray(chunk * PLACE_WORDS) as unknown as [number, number, number]
    const bytes = groups[group]?.subarray(offset, offset + length)
    return bytes && isChunk(keys, wanted.ids.subarray(chunk * ID_BYTES, (chunk + 1) * ID_BYTES), bytes) ? bytes : null
  })
}

function openGroups(opener: GroupOpener, wanted: Wanted): (Buffer | null)[] {
  try {
    // A group that does not open is null in its place: its chunks are named as lost.
    return opener.open(wanted.source, () => undefined)
  } catch (error) {
    if (!isLoss(error)) throw error
    return wanted.source.groups.map(() => null)
  }
}
