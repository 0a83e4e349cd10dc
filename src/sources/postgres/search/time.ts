const EPOCH_MICROS = 946_684_800_000_000n

/** RFC 3339 UTC with microseconds, of PostgreSQL's time: microseconds since 2000-01-01. */
export function formatPostgresTime(micros: bigint): string {
  const unix = micros + EPOCH_MICROS
  const fraction = ((unix % 1_000_000n) + 1_000_000n) % 1_000_000n
  const seconds = new Date(Number((unix - fraction) / 1000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(fraction).padStart(6, '0')}Z`
}

/** The last moment before `time`, of the same form. */
export function momentBefore(time: string): string {
  const fraction = BigInt(/\.(\d{6})Z$/.exec(time)?.[1] ?? '0')
  const micros = BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + fraction
  return formatPostgresTime(micros - EPOCH_MICROS - 1n)
}
