const UNITS = { KB: 1e3, MB: 1e6, GB: 1e9 } as const
const FORM = /^([1-9][0-9]*)(KB|MB|GB)$/

/** Bytes of '500KB', '20MB', '1GB', in powers of ten; null if it is not a number of bytes. */
export function parseByteCount(text: string): number | null {
  const [, count, unit] = FORM.exec(text) ?? []
  if (count === undefined) return null
  const bytes = Number(count) * UNITS[unit as keyof typeof UNITS]
  return Number.isSafeInteger(bytes) ? bytes : null
}
