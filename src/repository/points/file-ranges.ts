import type { FileToRead, ReadOutcome, StoredRange } from '../compute/messages.ts'
import { READ_ATTEMPTS } from '../compute/read-files.ts'

/** A large file is read in ranges of this size by any thread; a chunk never spans two. */
export const RANGE_BYTES = 64 * 1024 * 1024

/** One outcome for a file whose ranges were read by different threads. */
export function joinRanges(replies: readonly StoredRange[], file: FileToRead): ReadOutcome {
  if (replies.length === 1) return (replies[0] as StoredRange).outcome
  const failed = replies.find((reply) => reply.outcome.missed)
  if (failed?.outcome.missed) return { chunks: 0, missed: failed.outcome.missed }
  const outcome: ReadOutcome = { chunks: 0 }
  const sparse = replies.some((reply) => reply.outcome.extents)
  const extents = replies.flatMap(
    (reply, index) => reply.outcome.extents ?? [[index * RANGE_BYTES, rangeLength(file, index)] as [number, number]],
  )
  if (sparse) outcome.extents = mergeAdjacent(extents)
  const bytes = replies.reduce((sum, reply) => sum + reply.bytesRead, 0)
  const expected = sparse ? extents.reduce((sum, [, length]) => sum + length, 0) : file.size
  if (bytes !== expected) {
    delete outcome.extents
    outcome.size = bytes
  }
  if (replies.some((reply) => reply.changedTo))
    outcome.missed = {
      reason: 'changed',
      detail: `It changed each of ${READ_ATTEMPTS} times it was read; what is kept may mix moments.`,
    }
  return outcome
}

function rangeLength(file: FileToRead, index: number): number {
  return Math.min(RANGE_BYTES, file.size - index * RANGE_BYTES)
}

function mergeAdjacent(extents: [number, number][]): [number, number][] {
  const merged: [number, number][] = []
  for (const [offset, length] of extents) {
    const last = merged.at(-1)
    if (last && last[0] + last[1] === offset) last[1] += length
    else merged.push([offset, length])
  }
  return merged
}
