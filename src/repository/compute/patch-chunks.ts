import { ID_BYTES } from '../format/domain-keys.ts'
import type { PatchJob, PatchReply } from './messages.ts'
import type { SessionStore } from './store.ts'

const PATCH_NUMBERS = 3

/** Where a patch lies: [chunk, offset in it, length], as PatchJob.patches has it. */
export type Patch = readonly [chunk: number, offset: number, length: number]

/**
 * Stores chunks that are others with some of their bytes replaced. `old` gives the bytes of each chunk, valid until the
 * next is asked for, or null where this copy of it is lost: then that one is not stored, and named.
 */
export async function patchChunks(
  store: SessionStore,
  old: Iterable<Uint8Array | null>,
  job: Pick<PatchJob, 'lengths' | 'patches' | 'buffer'>,
): Promise<PatchReply> {
  const ids = new Uint8Array(job.lengths.length * ID_BYTES)
  const lost: number[] = []
  // One for all: memory of its own for each chunk would keep the collector busier than the patches keep us.
  const room = new Uint8Array(job.lengths.reduce((most, length) => Math.max(most, length), 0))
  let patch = 0
  let at = 0
  let next = 0
  for (const bytes of old) {
    const number = next++
    const chunk = room.subarray(0, job.lengths[number])
    if (bytes) {
      chunk.set(bytes.subarray(0, chunk.length))
      chunk.fill(0, bytes.length)
    } else lost.push(number)
    for (; job.patches[patch * PATCH_NUMBERS] === number; patch++) {
      const [, offset, length] = job.patches.subarray(patch * PATCH_NUMBERS) as unknown as Patch
      chunk.set(new Uint8Array(job.buffer, at, length), offset)
      at += length
    }
    if (!bytes) continue
    const waiting = store.room()
    if (waiting) await waiting
    ids.set(store.put(chunk, false), number * ID_BYTES)
  }
  return { ids, lost }
}
