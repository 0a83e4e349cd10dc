import type { Lsn } from '../protocol/lsn.ts'

/** Who waits until the log is durable up to a position. */
export class DurableWaiters {
  #waiters: { lsn: Lsn; resolve: () => void; reject: (error: Error) => void }[] = []

  wait(lsn: Lsn): Promise<void> {
    return new Promise((resolve, reject) => this.#waiters.push({ lsn, resolve, reject }))
  }

  /** All before `end` is durable. */
  reached(end: Lsn): void {
    const due = this.#waiters.filter((waiter) => waiter.lsn <= end)
    this.#waiters = this.#waiters.filter((waiter) => waiter.lsn > end)
    for (const waiter of due) waiter.resolve()
  }

  /** Nothing more will become durable. */
  fail(error: Error): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.reject(error)
  }
}
