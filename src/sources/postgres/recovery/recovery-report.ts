/** What a server's log says of its recovery. The server was started with lc_messages = C, so the words are known. */
export interface RecoveryReport {
  /** It ended before its target: nothing usable came of it. */
  targetMissed: boolean
  /** RFC 3339 UTC, to the microsecond; null if no transaction was replayed. */
  lastTransaction: string | null
  /** 'X/X': where the last record that was replayed begins; null if nothing was. */
  lastRecord: string | null
  /** Timeline that it made when it came up; null if it did not. */
  timeline: number | null
}

export function readRecoveryLog(log: string): RecoveryReport {
  const last = (pattern: RegExp): string | null => [...log.matchAll(pattern)].at(-1)?.[1] ?? null
  const time = last(
    /last completed transaction was at log time (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d(?::?\d\d)?)/g,
  )
  const timeline = last(/selected new timeline ID: (\d+)/g)
  return {
    targetMissed: /recovery ended before configured recovery target was reached/.test(log),
    lastTransaction: time === null ? null : toRfc3339(time),
    lastRecord: last(/redo done at ([0-9A-F]+\/[0-9A-F]+)/g),
    timeline: timeline === null ? null : Number(timeline),
  }
}

/** '2026-11-20 19:01:06.123456+00' -> '2026-11-20T19:01:06.123456Z', with all six digits, which Date would drop. */
export function toRfc3339(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?([+-]\d\d)(?::?(\d\d))?$/.exec(text)
  if (!match) return text
  const [, date, time, fraction = '', hours = '+00', minutes = '00'] = match
  const utc = new Date(`${date}T${time}${hours}:${minutes}`).toISOString().slice(0, 19)
  return `${utc}.${fraction.padEnd(6, '0')}Z`
}
