import { RegainError } from '../../../errors.ts'

/**
 * Log sequence numbers: byte positions in the WAL, 64 bits, written `X/X` (two hex halves) as PostgreSQL does.
 * bigint, because a busy cluster's position passes 2^53 only in theory but is compared for equality everywhere.
 */
export type Lsn = bigint

const MAX_LSN = (1n << 64n) - 1n

/** Parses 'A/1F000028'. Rejects with `usage` what is not of that form. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})$/i.exec(text.trim())
  if (!match) {
    throw new RegainError('usage', `"${text}" is not a WAL position.`, {
      hint: 'Positions look like 0/3000060: two hexadecimal numbers with a slash between.',
    })
  }
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

/** 'A/1F000028': upper case, no leading zeros, as PostgreSQL prints it. */
export function formatLsn(lsn: Lsn): string {
  if (lsn < 0n || lsn > MAX_LSN) throw new RangeError(`WAL position out of range: ${lsn}`)
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

export function laterLsn(a: Lsn, b: Lsn): Lsn {
  if (a > b) return a
  return b
}

export function earlierLsn(a: Lsn, b: Lsn): Lsn {
  if (a < b) return a
  return b
}
