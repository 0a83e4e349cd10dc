import { readdir } from 'node:fs/promises'
import { RegainError } from '../../../errors.ts'
import type { Point } from '../../../model.ts'
import type { LogStore } from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { findEvent } from '../log/locate.ts'
import { parseSegmentName, segmentName } from '../log/wal.ts'
import { scanWal, type WalEvent } from '../log/wal-records.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'
import type { RecoveryPlan } from './plan.ts'
import { timedWindows } from './recovery-log.ts'

/** What a recovery is of, as far as tablespaces go: kept with a data directory that is to recover later. */
export interface GuardedRecovery {
  point: Pick<Point, 'id' | 'positions'>
  plan: Pick<RecoveryPlan, 'timeline' | 'target'>
  /** Oids of databases that were laid out without content: see hollow-pages.ts. */
  hollow?: readonly number[]
}

/**
 * Keeps a recovery from replaying a CREATE TABLESPACE that is newer than its point, if the folder holds files here. Replaying
 * that links the copy to the very folder, and where the original runs on the same machine, to the original's own files: both
 * then write to them. Each segment is looked through on its way to the server, which is free beside replaying it. Only if there is
 * such a record in one, the log is read once more for whether recovery gets to it.
 */
export class TablespaceGuard {
  readonly #recovery: GuardedRecovery
  readonly #store: LogStore
  readonly #signal: AbortSignal
  #replayed: Promise<Set<string>> | null = null

  constructor(recovery: GuardedRecovery, store: LogStore, signal: AbortSignal) {
    this.#recovery = recovery
    this.#store = store
    this.#signal = signal
  }

  /** False: it makes a tablespace in somebody's folder, and only `admit` can tell whether that is replayed. */
  async isHarmless(name: string, segment: Buffer): Promise<boolean> {
    return (await this.#foreignFolders(name, segment)).length === 0
  }

  /** Before a segment is handed over. Rejects with `precondition-failed` if replaying it would touch somebody's folder. */
  async admit(name: string, segment: Buffer): Promise<void> {
    for (const location of await this.#foreignFolders(name, segment)) {
      if ((await this.#replayedFolders()).has(location))
        throw refusal(location, 'so recovery was ended before it. What is in the folder is untouched.')
    }
  }

  /** Before anything is written, where what is there can't be had back: reads the log for it. Rejects as `admit`. */
  async admitAll(): Promise<void> {
    for (const location of await this.#replayedFolders())
      if (!(await isNobodys(location))) throw refusal(location, 'so nothing was done.')
  }

  #replayedFolders(): Promise<Set<string>> {
    this.#replayed ??= findNewTablespaces(this.#recovery, this.#store, this.#signal)
    return this.#replayed
  }

  /** A record that begins here and ends in the next segment counts here: there it would be replayed at once. */
  async #foreignFolders(name: string, segment: Buffer): Promise<string[]> {
    const id = parseSegmentName(name, segment.length)
    if (id === null) return []
    const start = id.number * BigInt(segment.length)
    let scan = scanWal(segment, start, null)
    if (scan.mayEndInTablespace) {
      const next = segmentName(id.timeline, id.number + 1n, segment.length)
      const following = await this.#store.read(next.slice(0, 8), next)
      scan = scanWal(segment, start, following?.bytes ?? null)
    }
    const folders: string[] = []
    for (const event of scan.events)
      if (event.kind === 'tablespace' && !(await isNobodys(event.location))) folders.push(event.location)
    return folders
  }
}

function refusal(location: string, outcome: string): RegainError {
  return new RegainError(
    'precondition-failed',
    `A tablespace was made in ${location} after the point was taken, and that folder holds files here. To replay that would make the copy write into them, ${outcome}`,
    {
      hint: 'Restore a moment before it, or one behind a newer point; or restore on another machine. If those files are of no use any more, move them away first.',
    },
  )
}

/** Folders of tablespaces that are made by log which the recovery replays. Reads its log once, backwards. */
export async function findNewTablespaces(
  { point, plan }: GuardedRecovery,
  store: LogStore,
  signal: AbortSignal,
): Promise<Set<string>> {
  const { startLsn, stopLsn } = positionsOf(point)
  const isBeyond = beyond(plan.target)
  const lastLsn = lastReplayed(plan.target, stopLsn)
  const { windows } = await timedWindows([point], store, true)
  const locations = new Set<string>()
  for (const window of windows) {
    if (window.timeline !== plan.timeline) continue
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
  return locations
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
