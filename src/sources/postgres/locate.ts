import { throwIfInterrupted } from '../../errors.ts'
import type { LogStore } from '../contract.ts'
import type { Lsn } from './lsn.ts'
import { branchName, segmentName } from './wal.ts'
import { scanWal, type WalEvent } from './wal-records.ts'
import type { Window } from './window.ts'

/** What the end of a window's log tells. */
export interface LogEnd {
  /** Begin of its last whole record; null if the log ends with the point itself. */
  lastRecord: Lsn | null
  /** When its last transaction ended, ms; null if none did behind the first point. */
  lastTransactionMs: number | null
}

/** Reads back from the window's end until a transaction's end is found, at most to its first point. */
export async function readLogEnd(window: Window, store: LogStore, signal: AbortSignal): Promise<LogEnd> {
  const end: LogEnd = { lastRecord: null, lastTransactionMs: null }
  for await (const scan of scanBackwards(window, store, signal)) {
    end.lastRecord ??= scan.lastRecord
    // Times of transactions that end at once need not stand in order: the latest of the last ones counts.
    const times = scan.events.filter((event) => event.kind === 'transaction').map(({ timeMs }) => timeMs)
    if (times.length > 0) return { ...end, lastTransactionMs: times.reduce((a, b) => Math.max(a, b)) }
  }
  return end
}

/** Where the newest event that `is` stands, in the window; null if it is not there. Reads back from the end. */
export async function findEvent(
  window: Window,
  store: LogStore,
  is: (event: WalEvent) => boolean,
  signal: AbortSignal,
): Promise<Lsn | null> {
  for await (const scan of scanBackwards(window, store, signal)) {
    const found = scan.events.findLast(is)
    if (found) return found.lsn
  }
  return null
}

async function* scanBackwards(
  window: Window,
  store: LogStore,
  signal: AbortSignal,
): AsyncGenerator<ReturnType<typeof scanWal>> {
  const size = BigInt(window.segmentBytes)
  const first = window.from / size
  let following: Buffer | null = null
  for (let number = (window.to - 1n) / size; number >= first; number--) {
    throwIfInterrupted(signal)
    const timeline = window.timelineOf(number)
    const piece = await store.read(branchName(timeline), segmentName(timeline, number, window.segmentBytes))
    // It was listed a moment ago: whoever removed it since has made this window shorter, and recovery will say so.
    if (!piece) return
    yield scanWal(piece.bytes, number * size, following)
    following = piece.bytes
  }
}
