/** Requests under way when a month ends belong to the next one. */
const REQUEST_MS = 3_600_000

/**
 * Until when what is written or extended at `nowMs` stays locked: the end of the month, by UTC, and the period after it.
 * So each object is extended at most once a month, and whatever was written or extended in a month is still locked for
 * the whole period at the month's end.
 */
export function lockUntil(nowMs: number, periodMs: number): number {
  const now = new Date(nowMs + REQUEST_MS)
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1) + periodMs
}

/** Whether a lock that ends then still covers the period for all of this month. */
export function isCurrentLock(untilMs: number, nowMs: number, periodMs: number): boolean {
  const now = new Date(nowMs)
  return untilMs >= Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1) + periodMs
}
