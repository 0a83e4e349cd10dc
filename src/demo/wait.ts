import { setTimeout as sleep } from 'node:timers/promises'
import { RegainError, throwIfInterrupted } from '../errors.ts'

/** Waits `ms`, or until the signal fires, whichever comes first; never rejects. */
export async function delay(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error
  })
}

/** Asks until the answer is not null, at most `limitMs`; rejects with `precondition-failed` after that. */
export async function waitFor<T>(
  what: string,
  limitMs: number,
  signal: AbortSignal,
  ask: () => Promise<T | null> | T | null,
): Promise<T> {
  const stepMs = 100
  for (let waitedMs = 0; waitedMs <= limitMs; waitedMs += stepMs) {
    throwIfInterrupted(signal)
    const answer = await ask()
    if (answer !== null) return answer
    await delay(stepMs, signal)
  }
  throw new RegainError('precondition-failed', `${what} did not happen within ${Math.round(limitMs / 1000)} s.`)
}
