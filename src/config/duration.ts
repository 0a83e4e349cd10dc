const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const
const FORM = /^(?:\d+(?:ms|s|m|h|d|w))+$/
const PART = /(\d+)(ms|s|m|h|d|w)/g

/** Milliseconds of '15m', '2h', '90d', '1h30m'; null if it is not a duration. */
export function parseDuration(text: string): number | null {
  if (!FORM.test(text)) return null
  let ms = 0
  for (const [, count, unit] of text.matchAll(PART)) ms += Number(count) * UNITS[unit as keyof typeof UNITS]
  return Number.isSafeInteger(ms) ? ms : null
}

/** The two largest parts that are not zero: '1 h 5 min', '3.2 s'. For people. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const
  const first = parts.findIndex(([count]) => count > 0)
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ')
}
