import { isLoss } from '../damage.ts'
import { type DomainKeys, ID_BYTES } from '../format/domain-keys.ts'
import type { ReadChunksJob, ReadChunksReply } from './messages.ts'
import { type GroupOpener, isChunk } from './open-groups.ts'

const PLACE_WORDS = 3

/** Chunks in memory, each proven by its id. One that is lost is named, so that the main thread finds another copy. */
export function readChunks(keys: DomainKeys, opener: GroupOpener, job: ReadChunksJob): ReadChunksReply {
  const groups = openGroups(opener, job)
  const count = job.ids.length / ID_BYTES
  let totalBytes = 0
  for (let chunk = 0; chunk < count; chunk++) totalBytes += job.places[chunk * PLACE_WORDS + 2] as number
  const out = new Uint8Array(totalBytes)
  const lost: number[] = []
  let at = 0
  for (let chunk = 0; chunk < count; chunk++) {
    const [group, offset, length] = job.places.subarray(chunk * PLACE_WORDS) as unknown as [number, number, number]
    const bytes = groups[group]?.subarray(offset, offset + length)
    if (bytes && isChunk(keys, job.ids.subarray(chunk * ID_BYTES, (chunk + 1) * ID_BYTES), bytes)) out.set(bytes, at)
    else lost.push(chunk)
    at += length
  }
  return { bytes: out.buffer, lost }
}

function openGroups(opener: GroupOpener, job: ReadChunksJob): (Buffer | null)[] {
  try {
    // A group that does not open is null in its place: its chunks are named as lost.
    return opener.open(job.source, () => undefined)
  } catch (error) {
    if (!isLoss(error)) throw error
    return job.source.groups.map(() => null)
  }
}
