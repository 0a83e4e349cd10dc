import { ID_BYTES } from '../format/domain-keys.ts'
import type { PatchJob, PatchReply } from './messages.ts'
import type { ChunksInOrder } from './open-groups.ts'
import type { SessionStore } from './store.ts'

const PATCH_NUMBERS = 3

/** Where a patch lies: [chunk, offset in it, length], as PatchJob.patches has it. */
export type Patch = readonly [chunk: number, offset: number, length: number]

/**
 * Stores chunks that are others with some of their bytes replaced. Where this copy of the old one is lost or not what its id
 * says, it is not stored, and named.
 */
export async function patchChunks(
  store: SessionStore,
  old: ChunksInOrder,
  job: Pick<PatchJob, 'lengths' | 'patches' | 'buffer'>,
): Promise<PatchReply> {
  const ids = new Uint8Array(old.count * ID_BYTES)
  const lost: number[] = []
  // One for all: memory of its own for each chunk would keep the collector busier than the patches keep us.
  const room = new Uint8Array(job.lengths.reduce((most, length) => Math.max(most, length), 0))
  let patch = 0
  let at = 0
  for (let number = 0; number < old.count; number++) {
    const found = old.unproven(number)
    const bytes = typeof found === 'string' ? null : found
    const chunk = room.subarray(0, job.lengths[number])
    if (bytes) {
      chunk.set(bytes.subarray(0, chunk.length))
      chunk.fill(0, bytes.length)
    }
    // Bytes before it are the old chunk's.
    const firstPatched =
      job.patches[patch * PATCH_NUMBERS] === number ? (job.patches[patch * PATCH_NUMBERS + 1] ?? 0) : 0
    for (; job.patches[patch * PATCH_NUMBERS] === number; patch++) {
      const [, offset, length] = job.patches.subarray(patch * PATCH_NUMBERS) as unknown as Patch
      chunk.set(new Uint8Array(job.buffer, at, length), offset)
      at += length
    }
    const id = bytes && identify(store, old.idOf(number), bytes, chunk, firstPatched)
    if (!id) {
      lost.push(number)
      continue
    }
    const waiting = store.room()
    if (waiting) await waiting
    ids.set(store.putAs(id, chunk, false), number * ID_BYTES)
  }
  return { ids, lost }
}

/** The id of the new chunk, once the old one is proven to be what `oldId` says; null if it is not. */
function identify(
  store: SessionStore,
  oldId: Uint8Array,
  old: Uint8Array,
  chunk: Uint8Array,
  firstPatched: number,
): Buffer | null {
  const isPair = old.length === chunk.length
  const [found, id] = isPair
    ? store.identifyPair(old, chunk, firstPatched)
    : [store.identify(old), store.identify(chunk)]
  return found.equals(oldId) ? id : null
}
