import type { Waiting } from './waiting.ts'

/** Failures in a row, of all calls together, after which the store is left alone. */
const FAILURES = 6
const REST_MS = 5_000

/**
 * Keeps many callers from hammering a store that does not answer:
 *
 *   closed   every call passes; FAILURES in a row without a success between: open
 *   open     nobody passes for REST_MS; then one call is let through: half open
 *   half     everybody else waits for it: it succeeds: closed; it fails: open
 */
export class Breaker {
  readonly #waiting: Waiting
  readonly #told: (isOpen: boolean) => void
  #failures = 0
  #openUntilMs: number | null = null
  #isProbing = false

  constructor(waiting: Waiting, told: (isOpen: boolean) => void) {
    this.#waiting = waiting
    this.#told = told
  }

  /**
   * True when a call may be made, which must be followed by one of `succeeded`, `failed`, `left`; false when none could
   * be made until then.
   */
  async pass(untilMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    while (this.#openUntilMs !== null) {
      const nowMs = this.#waiting.nowMs()
      if (nowMs > untilMs) return false
      if (nowMs >= this.#openUntilMs && !this.#isProbing) {
        this.#isProbing = true
        return true
      }
      await this.#waiting.sleep(Math.max(this.#openUntilMs - nowMs, REST_MS / 10), signal)
    }
    return true
  }

  succeeded(): void {
    this.#failures = 0
    this.#isProbing = false
    if (this.#openUntilMs === null) return
    this.#openUntilMs = null
    this.#told(false)
  }

  failed(): void {
    this.#failures++
    this.#isProbing = false
    if (this.#failures < FAILURES) return
    if (this.#openUntilMs === null) this.#told(true)
    this.#openUntilMs = this.#waiting.nowMs() + REST_MS
  }

  /** The call told nothing of the store: it was interrupted. */
  left(): void {
    this.#isProbing = false
  }
}
