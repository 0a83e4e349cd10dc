import { setTimeout as timeout } from 'node:timers/promises'
import { RegainError } from '../errors.ts'

/** How time passes for whoever must wait; tests let it pass at once. */
export interface Waiting {
  /** Milliseconds of a clock that only goes forward. */
  nowMs(): number
  /** Rejects with `interrupted` when the signal fires. */
  sleep(delayMs: number, signal: AbortSignal | undefined): Promise<void>
}

export const REAL_WAITING: Waiting = {
  nowMs: () => performance.now(),

  async sleep(delayMs, signal) {
    try {
      await timeout(delayMs, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      throw new RegainError('interrupted', 'The operation was interrupted.', { cause: error })
    }
  },
}
