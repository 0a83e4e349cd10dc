import { throwIfInterrupted } from '../../../errors.ts'
import type { LogReader } from '../../contract.ts'
import type { Lsn } from '../protocol/lsn.ts'
import type { Window } from '../recovery/window.ts'
import { branchName, segmentName } from './wal.ts'
import { scanWal, type WalEvent } from './wal-records.ts'

/** What the end of a window's log tells. */
export interface LogEnd {
  /** Begin of its last whole record; null if the log ends with the point itself. */
  lastRecord: Lsn | null
  /** When its last transaction ended, ms; null if none did behind the first point. */
  lastTransactionMs: number | null
}

/** Reads back from the window's end until a transaction's end is found, at most to its first point. */
export async function readLogEnd(window: Window, store: LogReader, signal: AbortSignal): Promise<LogEnd> {
  const end: LogEnd = { lastRecord: null, lastTransactionMs: null }
  for await (const scan of scanBackwards(window, store, signal)) {
    end.lastRecord ??= scan.lastRecord
    // Times of transactions that end at once need not stand in order: the latest of the last ones counts.
    const times = scan.events.filter((event) => event.kind === 'transaction').map(({ timeMs }) => timeMs)
    if (times.length > 0) return { ...end, lastTransactionMs: times.reduce((a, b) => Math.max(a, b)) }
  }
  return end
}

/** The newest event of the window that `is`; null if none is there. Reads back from the end. */
export async function findEvent(
  window: Window,
  store: LogReader,
  is: (event: WalEvent) => boolean,
  signal: AbortSignal,
): Promise<WalEvent | null> {
  for await (const scan of scanBackwards(window, store, signal)) {
    const found = scan.events.findLast(is)
    if (found) return found
  }
  return null
}

/** The end of a transaction, given by its number or by that of a subtransaction. */
export function endOf(xid: number): (event: WalEvent) => boolean {
  return (event) => event.kind === 'transaction' && (event.xid === xid || event.children.includes(xid))
}

export function named(name: string): (event: WalEvent) => boolean {
  return (event) => event.kind === 'restore-point' && event.name === name
}

/**
 * ms with the microseconds that Date.parse drops; what is finer is cut. One division of a whole number, as for the times of
 * events: equal times are equal numbers.
 */
export function preciseMs(time: string): number {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? ''
  const micros = Number(fraction.slice(0, 6).padEnd(6, '0'))
  return (Date.parse(time.replace(/\.\d+/, '')) * 1000 + micros) / 1000
}

async function* scanBackwards(
  window: Window,
  store: LogReader,
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
    // Behind the window's end there may be log of a timeline that was left, or of the one that goes on.
    const bytes = piece.bytes.subarray(0, Math.min(piece.bytes.length, Number(window.to - number * size)))
    yield scanWal(bytes, number * size, following)
    following = bytes
  }
}
