import type { Lsn } from '../protocol/lsn.ts'

const MAX_MARKS = 256

export interface LogMark {
  end: Lsn
  clockMs: number
}

/**
 * Tells up to which moment a piece of WAL is complete. The server sends with each message how far its WAL goes and its
 * clock. It reads the first before the second, so what had been committed at the clock of one message lies before the
 * end that the *next* message names: those two make a mark. Times are the server's, in ms; only ever too early.
 */
export class LogClock {
  readonly #marks: LogMark[] = []
  #previousClockMs: number | null = null
  #untilMs: number

  /** `untilMs`: known for what came before. `mark`: the log up to `end` is complete until `clockMs`. */
  constructor(untilMs: number, mark: LogMark | null) {
    this.#untilMs = untilMs
    if (mark) this.#marks.push({ ...mark })
  }

  onMessage(serverEnd: Lsn, clockMs: number): void {
    const before = this.#previousClockMs
    this.#previousClockMs = clockMs
    if (before === null) return
    const last = this.#marks.at(-1)
    // The same end at a later moment: nothing was written between.
    if (last && last.end >= serverEnd)
      last.clockMs = last.end === serverEnd ? Math.max(last.clockMs, before) : last.clockMs
    else this.#marks.push({ end: serverEnd, clockMs: before })
    // Forgetting the oldest only makes answers earlier than they could be.
    if (this.#marks.length > MAX_MARKS) this.#marks.shift()
  }

  /** Known otherwise: the log up to `end` is complete until `clockMs`. */
  addMark(mark: LogMark): void {
    const last = this.#marks.at(-1)
    if (last && last.end >= mark.end) last.clockMs = Math.max(last.clockMs, last.end === mark.end ? mark.clockMs : 0)
    else this.#marks.push({ ...mark })
    if (this.#marks.length > MAX_MARKS) this.#marks.shift()
  }

  /** The moment up to which WAL that ends at `end` is complete. */
  untilMs(end: Lsn): number {
    let untilMs = this.#untilMs
    for (const mark of this.#marks) {
      if (mark.end > end) break
      untilMs = Math.max(untilMs, mark.clockMs)
    }
    return untilMs
  }

  /** No question about an earlier end will follow. */
  forget(end: Lsn): void {
    this.#untilMs = this.untilMs(end)
    // The newest mark stays: a later keepalive may move its clock.
    while (this.#marks.length > 1 && this.#marks[0] && this.#marks[0].end <= end) this.#marks.shift()
  }
}
