import { setTimeout as sleep } from 'node:timers/promises'

const FIRST_MS = 1_000
const LONGEST_MS = 60_000

/**
 * How long to wait before a follower is started again after its `failures`th failure in a row: 1 s, doubling up to a
 * minute, each 20 % shorter or longer, so that many followers of one server do not come back in step. `random` is in
 * [0, 1).
 */
export function restartDelayMs(failures: number, random: number): number {
  const steps = Math.min(Math.max(failures, 1), 20) - 1
  return Math.round(Math.min(LONGEST_MS, FIRST_MS * 2 ** steps) * (0.8 + 0.4 * random))
}

/** Waits `ms`, or until the signal fires, whichever comes first; never rejects. */
export async function delay(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error
  })
}

/** A wait that can be ended early from elsewhere; a wake-up while nobody waits ends the next wait at once. */
export class Alarm {
  #wake = new AbortController()

  ring(): void {
    this.#wake.abort()
  }

  async wait(ms: number, signal: AbortSignal): Promise<void> {
    await delay(ms, AbortSignal.any([signal, this.#wake.signal]))
    this.#wake = new AbortController()
  }
}
