import { RegainError } from '../../../errors.ts'
import type { RestoreMoment } from '../../contract.ts'
import { preciseMs } from '../log/locate.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'

/** The part of a log that is asked for; by time, by position, or both. */
export interface Span {
  fromMs: number
  toMs: number
  fromLsn: Lsn
  toLsn: Lsn
}

const LAST_LSN = (1n << 64n) - 1n

/** Half of the server's microsecond: both ends count, however a fraction was rounded. */
const GRAIN_MS = 0.0005

/** Rejects with `usage` what is neither a time nor a position. */
export function spanOf(from: RestoreMoment | null, to: RestoreMoment | null): Span {
  const span: Span = {
    fromMs: Number.NEGATIVE_INFINITY,
    toMs: Number.POSITIVE_INFINITY,
    fromLsn: 0n,
    toLsn: LAST_LSN,
  }
  for (const [moment, side] of [
    [from, 'from'],
    [to, 'to'],
  ] as const) {
    if (moment === null) continue
    if (moment.kind === 'time') span[`${side}Ms`] = preciseMs(moment.time) + (side === 'from' ? -GRAIN_MS : GRAIN_MS)
    else if (moment.kind === 'lsn') span[`${side}Lsn`] = parseLsn(moment.lsn)
    else throw new RegainError('usage', `--${side} needs a time, such as 2026-11-20T14:59:59Z, or lsn:16/B374D848.`)
  }
  if (span.fromMs > span.toMs || span.fromLsn > span.toLsn)
    throw new RegainError('usage', '--from is later than --to: there is nothing between them.')
  return span
}
