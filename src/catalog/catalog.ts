import { statSync } from 'node:fs'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { type Lock, type LockHolder, tryLock } from './lock.ts'
import { DAEMON_LOCK, makePrivate, openStateFile } from './open.ts'
import {
  insertPoint,
  insertRun,
  type LearnedPoint,
  markCutShort,
  type NewRun,
  type Run,
  type RunEnd,
  type RunFilter,
  type RunPlace,
  selectRuns,
  updateRun,
} from './runs.ts'
import { replaceSeen, type SeenPlace, type SeenRepository, selectSeen } from './seen.ts'
import { transaction, translated } from './sqlite.ts'
import {
  type DaemonRow,
  type FollowerRow,
  selectDaemon,
  selectFollowers,
  upsertDaemon,
  upsertFollower,
} from './status.ts'

export type { Lock } from './lock.ts'
export type { LearnedPoint, NewRun, Operation, Outcome, Removed, Run, RunEnd, RunFilter } from './runs.ts'
export type { SeenPlace, SeenPoint, SeenRepository } from './seen.ts'
export type { DaemonRow, FollowerRow } from './status.ts'

/**
 * What this machine knows of its own doing: runs, followers, the daemon. All of it is a convenience: the repositories
 * hold the truth, and a deleted state file costs a little memory of what failed and when, never a point.
 *
 * Any number of processes may use it at once. Every call is one short transaction; while another process writes, a call
 * waits up to 10 s and then fails with `storage-unavailable`. Times are milliseconds since the epoch.
 */
export interface Catalog {
  readonly path: string
  /** Why the state file was replaced when it was opened, for people; null if it was not. */
  readonly notice: string | null
  /** False when the file at `path` is not the one that was opened: it was deleted or replaced. */
  isInPlace(): boolean

  beginRun(run: NewRun): number
  endRun(id: number, end: RunEnd): void
  /** Newest first. */
  runs(filter?: RunFilter): Run[]
  /** Adds points found in a repository as finished runs; those known already are left alone. Returns how many were new. */
  learnPoints(points: readonly LearnedPoint[]): number

  saveFollower(row: FollowerRow): void
  /** What is known of followers; `stale` rows are of a daemon that runs no more. */
  followers(): FollowerRow[]

  saveDaemon(row: DaemonRow): void
  daemon(): DaemonRow | null

  /** What was seen at a place; null: this machine never looked. */
  seen(place: SeenPlace): SeenRepository | null
  /** `change` is given what is noted at that moment, and nothing comes between. */
  updateSeen(place: SeenPlace, change: (seen: SeenRepository | null) => SeenRepository): void

  /**
   * The right to back this source up. At most one process of this machine has it. Runs of this source that are still
   * called running when nobody had it were cut short, and are marked so. `precondition-failed` names the holder.
   */
  lockSource(service: string, source: string, purpose: string): Lock
  /** Null instead of an error when another process has it. */
  tryLockSource(service: string, source: string, purpose: string): Lock | null
  /** The same for the right to prune a service's repository at a destination. */
  lockPrune(service: string, destination: string, purpose: string): Lock
  tryLockPrune(service: string, destination: string, purpose: string): Lock | null

  close(): void
}

export interface CatalogOptions {
  directory: string
  ambient: Ambient
  pid: number
  /** The caller holds the lock that lockDaemon gives. */
  isDaemon?: boolean
}

/**
 * Opens the catalog, making or migrating its file. A damaged file, or one of a newer version, is put aside and replaced:
 * see `notice`. Rejects with `storage-denied` or `storage-full` when the state directory cannot be used.
 */
export function openCatalog(options: CatalogOptions): Catalog {
  const { directory, ambient, pid } = options
  const { database, path, notice } = openStateFile({ directory, now: ambient.now(), pid, isDaemon: options.isDaemon })
  const write = <T>(work: () => T): T => translated(path, () => transaction(database, work))
  const holder = (purpose: string): LockHolder => ({ pid, purpose, since: ambient.now() })

  const lockOrHolder = (place: RunPlace, purpose: string) => {
    const outcome = tryLock(directory, lockName(place), holder(purpose))
    if (outcome.lock !== null) write(() => markCutShort(database, place, ambient.now()))
    return outcome
  }
  const ofSource = (service: string, source: string): RunPlace => ({
    operation: 'backup',
    service,
    source,
    destination: null,
  })
  const ofPrune = (service: string, destination: string): RunPlace => ({
    operation: 'prune',
    service,
    source: '',
    destination,
  })

  const opened = statSync(path)
  return {
    path,
    notice,
    isInPlace() {
      const found = statSync(path, { throwIfNoEntry: false })
      return found !== undefined && found.ino === opened.ino && found.dev === opened.dev
    },
    beginRun: (run) => write(() => insertRun(database, run, pid, ambient.now())),
    endRun: (id, end) => write(() => updateRun(database, id, end, ambient.now())),
    runs: (filter = {}) => translated(path, () => selectRuns(database, filter)),
    learnPoints: (points) => write(() => points.reduce((count, point) => count + insertPoint(database, point), 0)),
    saveFollower: (row) => write(() => upsertFollower(database, row)),
    followers: () => translated(path, () => selectFollowers(database)),
    saveDaemon: (row) => write(() => upsertDaemon(database, row)),
    daemon: () => translated(path, () => selectDaemon(database)),
    seen: (place) => translated(path, () => selectSeen(database, place)),
    updateSeen: (place, change) =>
      write(() => replaceSeen(database, place, change(selectSeen(database, place)), ambient.now())),
    tryLockSource: (service, source, purpose) => lockOrHolder(ofSource(service, source), purpose).lock,
    lockSource(service, source, purpose) {
      const outcome = lockOrHolder(ofSource(service, source), purpose)
      if (outcome.lock !== null) return outcome.lock
      throw heldByOther(`A backup of ${service}/${source} is under way already`, outcome.holder, {
        hint: 'Let it end, then run this again if it is still needed.',
      })
    },
    tryLockPrune: (service, destination, purpose) => lockOrHolder(ofPrune(service, destination), purpose).lock,
    lockPrune(service, destination, purpose) {
      const outcome = lockOrHolder(ofPrune(service, destination), purpose)
      if (outcome.lock !== null) return outcome.lock
      throw heldByOther(`${service} at ${destination} is being pruned already`, outcome.holder, {
        hint: 'Let it end, then run this again if it is still needed.',
      })
    },
    close: () => database.close(),
  }
}

/**
 * The right to be the daemon of this state directory. `precondition-failed` names the process that has it. Take it
 * before the catalog is opened, so that a damaged state file can be replaced.
 */
export function lockDaemon(options: { directory: string; ambient: Ambient; pid: number }): Lock {
  makePrivate(options.directory)
  const holder = { pid: options.pid, purpose: 'regain serve', since: options.ambient.now() }
  const outcome = tryLock(options.directory, DAEMON_LOCK, holder)
  if (outcome.lock !== null) return outcome.lock
  throw heldByOther(`regain serve is running already with the state directory ${options.directory}`, outcome.holder, {
    hint: 'Stop that one first, or give this one a configuration with another "state:" directory.',
  })
}

function heldByOther(what: string, holder: LockHolder | null, options: { hint: string }): RegainError {
  const who =
    holder === null ? '' : `: ${holder.purpose}, process ${holder.pid}, since ${new Date(holder.since).toISOString()}`
  return new RegainError('precondition-failed', `${what}${who}.`, options)
}

/** Names in a configuration may hold what file names may not. '@' itself is encoded, so two places never share a lock. */
function lockName({ operation, service, source, destination }: RunPlace): string {
  return [operation, service, source, ...(destination === null ? [] : [destination])].map(encodeURIComponent).join('@')
}
