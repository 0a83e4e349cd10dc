import assert from 'node:assert/strict'
import { test } from 'node:test'
import { provingPosition, type ResumePosition, resumePosition } from './resume.ts'
import { parseHistory } from './timeline.ts'
import { segmentName } from './wal.ts'

const SEGMENT_BYTES = 1024 * 1024

function at(timeline: number, number: number): ResumePosition {
  return { timeline, start: BigInt(number * SEGMENT_BYTES) }
}

test('a log goes on behind the last segment that follows on from what the slot keeps, and proves with that one', () => {
  // Left within segment 5, which is asked for from the child.
  const history = parseHistory(2, '1\t0/500100\tno recovery target specified\n')
  const positions = (...held: [timeline: number, number: number][]) => {
    const segments = held.map(([timeline, number]) => ({
      branch: String(timeline),
      name: segmentName(timeline, BigInt(number), SEGMENT_BYTES),
    }))
    const listing = { segments, tails: [], histories: [] }
    const kept = at(1, 3)
    return [provingPosition, resumePosition].map((of) => of(listing, history, SEGMENT_BYTES, kept))
  }
  assert.deepEqual(positions(), [at(1, 3), at(1, 3)])
  assert.deepEqual(positions([1, 2], [1, 4]), [at(1, 3), at(1, 3)])
  assert.deepEqual(positions([1, 3]), [at(1, 3), at(1, 4)])
  assert.deepEqual(positions([1, 3], [1, 4], [1, 5], [2, 6]), [at(1, 4), at(2, 5)])
  assert.deepEqual(positions([1, 3], [1, 4], [2, 5], [2, 6]), [at(2, 6), at(2, 7)])
})
