import type { Progress } from '../model.ts'

/** Of the time that passed, below it nobody is to be bothered with why. */
const NOTICEABLE_SHARE = 0.1
const NOTICEABLE_MS = 1000

/** Whether others on the machine held something back so much that a person wants to know. */
export function isHeldBack(gaveWayMs: number, elapsedMs: number): boolean {
  return gaveWayMs > 0 && gaveWayMs >= elapsedMs * NOTICEABLE_SHARE
}

/** The same of a backup that has ended. */
export function wasHeldBack(gaveWayMs: number, durationMs: number): boolean {
  return gaveWayMs >= NOTICEABLE_MS && isHeldBack(gaveWayMs, durationMs)
}

/** How long a backup waited for others until now: its point, and the tenants' points that are taken with it. */
export class Waited {
  gaveWayMs = 0

  /** The returned function adds what the session has waited since its last call. */
  follow(session: { readonly gaveWayMs: number }): () => void {
    let seenMs = 0
    return () => {
      const { gaveWayMs } = session
      this.gaveWayMs += gaveWayMs - seenMs
      seenMs = gaveWayMs
    }
  }

  beside(progress: Progress): Progress {
    return this.gaveWayMs === 0 ? progress : { ...progress, gaveWayMs: this.gaveWayMs }
  }
}
