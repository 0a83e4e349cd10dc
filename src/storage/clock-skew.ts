/** Below it a slow answer, and times to the second, could look like a clock that is off. */
const TELL_FROM_MS = 120_000

/** How far this machine's clock is from the store's, for people: 'is 48.0 hours ahead of'. Null: it is not, or not by much. */
export function skewText(storeMs: number | null, nowMs: number): string | null {
  if (storeMs === null || Math.abs(nowMs - storeMs) < TELL_FROM_MS) return null
  const apart = Math.abs(nowMs - storeMs)
  const amount = apart < 5_400_000 ? `${Math.round(apart / 60_000)} minutes` : `${(apart / 3_600_000).toFixed(1)} hours`
  return `is ${amount} ${nowMs > storeMs ? 'ahead of' : 'behind'}`
}
