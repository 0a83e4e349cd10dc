import { readdir } from 'node:fs/promises'
import { RegainError } from '../../errors.ts'
import type { Point } from '../../model.ts'
import type { LogStore } from '../contract.ts'
import { findEvent } from './locate.ts'
import { type Lsn, parseLsn } from './lsn.ts'
import type { RecoveryPlan } from './plan.ts'
import { positionsOf } from './positions.ts'
import { timedWindows } from './recovery-log.ts'
import type { WalEvent } from './wal-records.ts'

/**
 * Folders of tablespaces that are made by log which a recovery from `point` replays. Replaying that links the copy to the
 * very folder, and where the original runs on the same machine, to the original's own files: both then write to them.
 * Reads the log once, backwards.
 */
export async function findNewTablespaces(
  point: Point,
  plan: Pick<RecoveryPlan, 'timeline' | 'target'>,
  store: LogStore,
  signal: AbortSignal,
): Promise<string[]> {
  const { startLsn, stopLsn } = positionsOf(point)
  const isBeyond = beyond(plan.target)
  const lastLsn = lastReplayed(plan.target, stopLsn)
  const { windows } = await timedWindows([point], store)
  const locations = new Set<string>()
  for (const window of windows) {
    if (window.timeline < plan.timeline) continue
    let stop: Lsn | null = null
    const made: Extract<WalEvent, { kind: 'tablespace' }>[] = []
    const look = (event: WalEvent): boolean => {
      if (isBeyond(event) && (stop === null || event.lsn < stop)) stop = event.lsn
      if (event.kind === 'tablespace') made.push(event)
      return false
    }
    await findEvent({ ...window, from: startLsn }, store, look, signal)
    for (const { location, lsn, previous } of made) {
      const isReplayed = (stop === null || lsn < stop) && (lastLsn === null || previous < lastLsn)
      if (isReplayed) locations.add(location)
    }
  }
  return [...locations]
}

/** Before anything is written. A folder that is not here, or empty, is nobody's: PostgreSQL itself says what it needs. */
export async function refuseNewTablespaces(
  point: Point,
  plan: RecoveryPlan,
  store: LogStore,
  signal: AbortSignal,
): Promise<void> {
  for (const location of await findNewTablespaces(point, plan, store, signal)) {
    if (await isNobodys(location)) continue
    throw new RegainError(
      'precondition-failed',
      `A tablespace was made in ${location} after the point was taken, and that folder holds files here. To replay that would make the copy write into them. Nothing was done.`,
      {
        hint: 'Restore a moment before it, or one behind a newer point; or restore on another machine. If those files are of no use any more, move them away first.',
      },
    )
  }
}

/** Recovery stops behind the first record that begins at a position or later, so all that begins before it is replayed, and one more. */
function lastReplayed(target: RecoveryPlan['target'], consistentLsn: Lsn): Lsn | null {
  if (target.kind === 'immediate') return consistentLsn
  return target.kind === 'lsn' ? parseLsn(target.value) : null
}

/** Whether recovery has stopped when it gets to an event, as far as single events tell: if in doubt, it goes on. */
function beyond(target: RecoveryPlan['target']): (event: WalEvent) => boolean {
  switch (target.kind) {
    case 'time': {
      const stopMs = Date.parse(target.value)
      return (event) => event.kind === 'transaction' && event.timeMs > stopMs
    }
    case 'xid':
      return (event) => event.kind === 'transaction' && event.xid === Number(target.value)
    case 'name':
      return (event) => event.kind === 'restore-point' && event.name === target.value
    default:
      return () => false
  }
}

async function isNobodys(location: string): Promise<boolean> {
  try {
    return (await readdir(location)).length === 0
  } catch (error) {
    // Not to be looked into means that somebody owns it.
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
