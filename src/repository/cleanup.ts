import { RegainError } from '../errors.ts'

/** What a way out may take: people who interrupt are promised an end within seconds. */
const LIMIT_MS = 10_000

/**
 * Runs what is only tidying up, after a failure or at the end, and what nobody waits for: against a store that never
 * answers it rejects with `storage-unavailable` after ten seconds. Everything that goes through here is safe to leave
 * undone. `act` must hand the signal to each call.
 */
export async function tidy<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), LIMIT_MS)
  try {
    return await act(controller.signal)
  } catch (error) {
    if (!controller.signal.aborted) throw error
    throw new RegainError('storage-unavailable', `The destination did not answer within ${LIMIT_MS / 1000} s.`, {
      cause: error,
    })
  } finally {
    clearTimeout(timer)
  }
}
