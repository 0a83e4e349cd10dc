import { REAL_WAITING, type Waiting } from './waiting.ts'

/** Unused time is saved up for so long: short pauses do not lower the average. */
const SAVED_MS = 1_000

/**
 * So much a second on average. What is taken is paid for afterwards: it is let through as soon as all before it is paid,
 * whatever its size.
 */
export class Rate {
  readonly #perMs: number
  readonly #waiting: Waiting
  /** When all that was taken is paid for. */
  #paidAtMs = Number.NEGATIVE_INFINITY

  constructor(perSecond: number, waiting: Waiting = REAL_WAITING) {
    this.#perMs = perSecond / 1000
    this.#waiting = waiting
  }

  /** Resolves when it may happen. Whoever is interrupted while waiting has taken it all the same. */
  async take(amount: number, signal: AbortSignal | undefined): Promise<void> {
    const nowMs = this.#waiting.nowMs()
    const startMs = Math.max(this.#paidAtMs, nowMs - SAVED_MS)
    this.#paidAtMs = startMs + amount / this.#perMs
    if (startMs > nowMs) await this.#waiting.sleep(startMs - nowMs, signal)
  }
}
