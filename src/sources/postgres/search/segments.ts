import { throwIfInterrupted } from '../../../errors.ts'
import type { LogStore } from '../../contract.ts'
import { branchName, segmentName } from '../log/wal.ts'
import type { Lsn } from '../protocol/lsn.ts'
import type { Window } from '../recovery/window.ts'

/** How many segments are fetched while another one is read, and what they may take. */
const AHEAD = 3
const AHEAD_BYTES = 64 * 1024 * 1024

/** The pieces of a window's log from the segment of `from` to its end, in order, fetched ahead. */
export async function* readSegments(
  window: Window,
  from: Lsn,
  store: LogStore,
  signal: AbortSignal,
): AsyncGenerator<{ bytes: Buffer; start: Lsn }> {
  const size = BigInt(window.segmentBytes)
  const last = (window.to - 1n) / size
  const ahead = Math.max(1, Math.min(AHEAD, Math.floor(AHEAD_BYTES / window.segmentBytes)))
  const fetched: ReturnType<LogStore['read']>[] = []
  let next = from / size
  const fetch = (): void => {
    for (; next <= last && fetched.length < ahead; next++) {
      const timeline = window.timelineOf(next)
      const reading = store.read(branchName(timeline), segmentName(timeline, next, window.segmentBytes))
      // Its failure is told when its turn comes.
      reading.catch(() => undefined)
      fetched.push(reading)
    }
  }
  try {
    for (let number = next; number <= last; number++) {
      throwIfInterrupted(signal)
      fetch()
      const piece = await fetched.shift()
      // It was listed a moment ago: whoever removed it since has made this window shorter.
      if (!piece) return
      fetch()
      const start = number * size
      // Behind the window's end there may be log of a timeline that was left.
      yield { bytes: piece.bytes.subarray(0, Math.min(piece.bytes.length, Number(window.to - start))), start }
    }
  } finally {
    await Promise.allSettled(fetched)
  }
}
