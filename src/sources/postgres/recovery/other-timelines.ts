import type { LogReader, RestoreMoment } from '../../contract.ts'
import { endOf, findEvent, named, preciseMs, readLogEnd } from '../log/locate.ts'
import { partingOf } from '../log/timeline.ts'
import { parseLsn } from '../protocol/lsn.ts'
import type { RecoveryPlan, TimedWindow } from './plan.ts'

/**
 * A time, a position, a transaction's number and a name may each mean something on several timelines. A person who is given
 * one of them hears of the others: reads the log only where ways part.
 */
export async function noteOtherTimelines(
  plan: RecoveryPlan,
  windows: readonly TimedWindow[],
  at: RestoreMoment,
  store: LogReader,
  signal: AbortSignal,
): Promise<string[]> {
  const chosen = windows.find((window) => window.timeline === plan.timeline && window.to === plan.end)
  if (chosen === undefined) return []
  const others: number[] = []
  for (const window of windows) {
    const parting = window === chosen ? null : partingOf(window.history, chosen.history)
    if (parting === null || window.to <= parting) continue
    if (await holdsToo({ ...window, from: parting }, chosen, at, store, signal)) others.push(window.timeline)
  }
  if (others.length === 0) return []
  return [
    `Of this moment there are several: it is taken on timeline ${plan.timeline}. Another is on timeline ${others.join(' and on ')}: restore that with --timeline ${others[0]}.`,
  ]
}

/** Whether the moment is also on `window`, which begins where its way and the chosen one part. */
async function holdsToo(
  window: TimedWindow,
  chosen: TimedWindow,
  at: RestoreMoment,
  store: LogReader,
  signal: AbortSignal,
): Promise<boolean> {
  const holds = async (is: Parameters<typeof findEvent>[2]): Promise<boolean> => {
    const event = await findEvent(window, store, is, signal)
    return event !== null && event.lsn >= window.from
  }
  switch (at.kind) {
    case 'time': {
      const end = await readLogEnd(window, store, signal)
      if (preciseMs(at.time) > Math.max(end.lastTransactionMs ?? 0, Date.parse(window.until))) return false
      // Up to the last transaction before the ways part, it is the same moment.
      const before = await readLogEnd({ ...chosen, to: window.from }, store, signal)
      return before.lastTransactionMs === null || preciseMs(at.time) > before.lastTransactionMs
    }
    case 'lsn': {
      const lsn = parseLsn(at.lsn)
      return lsn > window.from && lsn <= window.to
    }
    case 'xid':
      return holds(endOf(Number(BigInt(at.xid) & 0xffffffffn)))
    case 'name':
      return holds(named(at.name))
    default:
      return false
  }
}
