/**
 * Runs jobs of which no two have the same key at once, at most `concurrency` at a time, the others waiting in order.
 * Bounded: a key that is queued or running is refused, so there are never more jobs than keys.
 */
export class JobQueue {
  readonly #concurrency: number
  readonly #signal: AbortSignal
  readonly #waiting: Job[] = []
  readonly #running = new Map<string, Promise<void>>()

  /** When the signal fires, waiting jobs are dropped; running ones have the signal themselves. */
  constructor(concurrency: number, signal: AbortSignal) {
    this.#concurrency = concurrency
    this.#signal = signal
  }

  /** False if a job of this key is queued or running, or the queue has been stopped. `run` must not reject. */
  offer(key: string, run: () => Promise<void>): boolean {
    if (this.#signal.aborted || this.has(key)) return false
    this.#waiting.push({ key, run })
    this.#startNext()
    return true
  }

  has(key: string): boolean {
    return this.#running.has(key) || this.#waiting.some((job) => job.key === key)
  }

  get running(): string[] {
    return [...this.#running.keys()]
  }

  /** Resolves when nothing runs any more; waiting jobs begin only while the signal has not fired. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  #startNext(): void {
    if (this.#signal.aborted) this.#waiting.length = 0
    while (this.#running.size < this.#concurrency) {
      const job = this.#waiting.shift()
      if (job === undefined) return
      const ended = job.run().finally(() => {
        this.#running.delete(job.key)
        this.#startNext()
      })
      this.#running.set(job.key, ended)
    }
  }
}

interface Job {
  key: string
  run(): Promise<void>
}
