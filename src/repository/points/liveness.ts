import type { Ambient } from '../../model.ts'

/**
 * Whether whoever made a session or pin is still at it. Clocks and process numbers decide here how long a collector is
 * polite, never what is safe: a writer that is taken for dead finds its session fenced and fails; a reader may miss a pack.
 */
const HOUR_MS = 3_600_000
/** Without an end for longer than this, a backup of another host is taken for dead; one known to live gets more. */
const SILENT_SESSION_MS = 24 * HOUR_MS
const LONGEST_MS = 7 * 24 * HOUR_MS

/** What a record says of its maker. */
export interface Trace {
  startedAt: string
  process?: string
}

export type Gone = 'dead' | 'silent'

export function ownTrace(ambient: Ambient): Trace {
  const startedAt = new Date(ambient.now()).toISOString()
  return ambient.process ? { startedAt, process: ambient.process.identity } : { startedAt }
}

export function isSessionGone(ambient: Ambient, trace: Trace): Gone | null {
  return isGone(ambient, trace, SILENT_SESSION_MS)
}

export function isPinGone(ambient: Ambient, trace: Trace): Gone | null {
  return isGone(ambient, trace, LONGEST_MS)
}

/**
 * Whether what a removal that began then has asked of its store may still be carried out. Death does not shorten it: the last call
 * of a process may be on its way when it dies. No call is on its way for days.
 */
export function mayStillRemove(ambient: Ambient, startedAt: string): boolean {
  return isGone(ambient, { startedAt }, LONGEST_MS) === null
}

function isGone(ambient: Ambient, { startedAt, process }: Trace, silentMs: number): Gone | null {
  const alive = process === undefined ? null : (ambient.process?.isAlive(process) ?? null)
  if (alive === false) return 'dead'
  const ageMs = ambient.now() - Date.parse(startedAt)
  const limitMs = alive ? LONGEST_MS : silentMs
  // No time, or one far in the future, says nothing: whoever it was must not hold removal up for ever. Clocks that are wrong, or
  // were set right since, get as much grace in that direction as silence gets in the other.
  return ageMs > -limitMs && ageMs <= limitMs ? null : 'silent'
}
