import type { KeyProvider, WrappedKey } from '../keys/contract.ts'
import type {
  Ambient,
  ByteCounts,
  Entry,
  EntryPath,
  Fingerprint,
  Missed,
  Point,
  PointKind,
  Progress,
} from '../model.ts'
import type { Storage } from '../storage/contract.ts'
import type { PaceLimits } from './compute/pace.ts'

/**
 * What operations may ask of the engine. src/repository/repository.ts makes and opens one; nothing else of this folder
 * is imported from outside it.
 */
export interface RepositoryOptions {
  storage: Storage
  /** Tried in order when opening; the first wraps the new keys when creating. */
  keys: KeyProvider[]
  ambient: Ambient
  /** Compute threads. Started on first use, ended by close. Default: the number of processors, at most 8. */
  workers?: number
}

export interface Repository {
  /** 32 hex digits. */
  readonly id: string
  readonly service: string
  /** Where it is, for people and to tell places apart: 'local /srv/backups/shop'. */
  readonly location: string

  /** Points that count (docs/format.md, Commit), oldest first by committedAt. */
  points(filter?: { source?: string }): Promise<Point[]>

  /** By id or a unique prefix of at least 4 digits; `point-not-found` otherwise. */
  findPoint(idOrPrefix: string): Promise<Point>

  /** Whether a point counts, or else was removed on purpose, or is gone without a record of that. */
  standing(id: string): Promise<'counts' | 'expired' | 'gone'>

  /** Begins a writing session. Exactly one of commit and discard must follow; a process that dies leaves nothing visible. */
  startPoint(request: StartPoint): Promise<PointSession>

  /** Pins a point against removal and opens it for reading. Close it. */
  openPoint(id: string, options: { signal: AbortSignal }): Promise<OpenPoint>

  /** Structurally a LogStore of src/sources/contract.ts. */
  log(source: string): SourceLog

  verify(options: VerifyOptions): Promise<VerifyReport>

  /** Verifies, and says what can be mended, in order, and what can't. Changes nothing. */
  planRepair(options: {
    readData: boolean
    signal: AbortSignal
    progress(progress: Progress): void
  }): Promise<RepairPlan>

  /** Carries a plan out, safely beside backups, restores and prunes; what died on the way is done by the next one. */
  repair(plan: RepairPlan, options: { signal: AbortSignal; progress(progress: Progress): void }): Promise<void>

  /**
   * Gives up the points that were committed and are lost, their commit gone or damaged: they are recorded as removed, so that
   * prunes go on. Resolves with their ids. What is left of them can't be rescued any more after the next prune.
   */
  giveUpLostPoints(signal: AbortSignal): Promise<string[]>

  /** What of these problems another repository of the service may mend. Changes nothing. */
  planFetch(problems: readonly UnmendedProblem[], from: Repository, signal: AbortSignal): Promise<FetchPlan>

  /**
   * Brings back what is lost here and there is: chunks found by content and proven by their ids, pieces of the log. Nothing that
   * can be read is replaced. What died on the way is kept, and used by the next one.
   */
  fetch(
    plan: FetchPlan,
    from: Repository,
    options: { signal: AbortSignal; progress(progress: Progress): void },
  ): Promise<FetchReport>

  /** What a prune would do. Changes nothing. Rejects, `repository-damaged`, if a point that counts can't be read whole: then nothing may go. */
  planPrune(request: PruneRequest): Promise<PrunePlan>

  /**
   * Carries a plan out, safely beside backups, restores and other prunes on any host; killed at any moment, it leaves nothing
   * that the next one does not complete. A pack goes only after another look has proven that nothing needs it.
   */
  prune(plan: PrunePlan, options: { signal: AbortSignal; progress(progress: Progress): void }): Promise<PruneReport>

  /** Points that are kept whatever a policy says. */
  holds(): Promise<PointHold[]>
  /**
   * No removal touches the point from when this resolves until `release`. False: it had a hold already, which stays as it is.
   * Rejects with `point-not-found` if there is no such point, or it is just being removed.
   */
  hold(id: string, reason: string): Promise<boolean>
  /** False: it had no hold. */
  release(id: string): Promise<boolean>

  /** KEKs that can open this repository, in its current key epoch. */
  keys(): Promise<RepositoryKey[]>
  /** Lets another KEK open it, in every epoch that still holds something; again is fine. Gives the KEK's name. */
  addKey(provider: KeyProvider, label: string): Promise<string>
  /**
   * Takes a KEK's key objects away. Refuses the last one (`precondition-failed`). Who kept the KEK and a copy of its key
   * object, or the domain key itself, can read on: only a rekey ends that.
   */
  removeKey(kek: string): Promise<void>
  /** The key epoch that everything new is sealed in, and the oldest that anything may still be in: lower while a rekey is under way. */
  readonly keyEpoch: { current: number; oldest: number }
  /**
   * Begins a new key epoch, which the KEKs given open: all that is at hand, the first for certain. Then open the repository
   * anew and let `rekey` do its work. Backups that run go on in the epoch before.
   */
  beginRekey(atHand: readonly { provider: KeyProvider; label: string }[]): Promise<BegunRekey>
  /**
   * Seals all that is in older epochs in the current one, and ends them: packs are written anew as a prune does, which
   * nobody has to wait for. Resumable at any moment, and safe beside all else. What can't be done now is told.
   */
  rekey(options: { signal: AbortSignal; progress(progress: Progress): void }): Promise<RekeyReport>
  /**
   * Takes the key objects of every KEK and epoch away: nothing of this repository opens ever again, except to processes
   * that have it open and to whoever kept a copy of a key object with its KEK. Gives the names of what was removed.
   */
  destroyKeys(): Promise<string[]>
  /** Names of what below keys/ the store keeps from being removed now: while there is any, `destroyKeys` fails. */
  lockedKeys(): Promise<string[]>

  close(): Promise<void>
}

export interface RepositoryKey extends WrappedKey {
  label: string
  /** RFC 3339 UTC. */
  addedAt: string
  domain: string
  epoch: number
}

export interface PointHold {
  /** Its id. */
  point: string
  /** For people; may be empty. */
  reason: string
  /** RFC 3339 UTC; empty if the record cannot be read. */
  heldAt: string
}

export interface BegunRekey {
  epoch: number
  carried: { kek: string; label: string }[]
  /** KEKs that were not at hand: they open only what is older, until they are added again. */
  dropped: { kek: string; label: string }[]
}

export interface RekeyReport {
  epoch: number
  /** Nothing of an older epoch is left, and no key of one. */
  done: boolean
  /** Packs of older epochs that are gone, what was needed of them written anew. */
  packs: number
  /** Other objects that were sealed anew. */
  objects: number
  /** What is left to do, and why it waits. For people. */
  waits: string[]
}

export interface StartPoint {
  source: string
  sourceType: string
  kind: PointKind
  label?: string
  /** 'regain 0.1.0'. */
  tool: string
  /** Entries come in any order (Source.unordered): they are sorted in memory, up to some two million files. */
  unordered?: boolean
  /** The point becomes a copy of this one of another repository: all but its identity and what is stored is as there. */
  copyOf?: { repository: string; point: Point }
  /**
   * What the policy does not keep. Asked for where the store has immutability, at most once and before the commit: its locks are
   * left to their end. Without it all that is there is locked for longer, so nothing ever goes while backups are made.
   */
  unneeded?(): Promise<Unneeded>
  limits?: PaceLimits
  signal: AbortSignal
  progress(progress: Progress): void
}

export interface Unneeded {
  /** Ids. */
  points: readonly string[]
  log: readonly LogRange[]
}

/** Structurally a PointWriter of src/sources/contract.ts, with its end. */
export interface PointSession {
  readonly id: string
  /** Milliseconds that it has waited until now because others kept the processors busy (PaceLimits.busyShare). */
  readonly gaveWayMs: number
  readonly base: {
    readonly point: Point
    entries(): AsyncIterableIterator<Entry>
    leaves(): AsyncIterableIterator<readonly Entry[]>
    content(entry: Entry): AsyncIterableIterator<Buffer>
  } | null
  add(entry: Entry): Promise<void>
  addFile(
    entry: Entry,
    path: Buffer,
    missed: (missed: Missed) => void,
    options?: { sameInode?: boolean },
  ): Promise<void>
  addStream(
    entry: Entry,
    chunking: 'pages' | 'content' | 'dump',
  ): Promise<{ write(bytes: Buffer): Promise<void>; end(): Promise<void> }>
  addUnchanged(entry: Entry, from: Entry): Promise<boolean>
  addPatched(
    entry: Entry,
    from: Entry,
  ): Promise<{ write(offset: number, bytes: Buffer): Promise<void>; end(): Promise<void> } | null>
  isPatchable(from: Entry): Promise<boolean>
  /** What stores content is made ready. */
  expectContent(): void
  /** Resolves when every file given to addFile has been read to its end or reported as missed. */
  allRead(): Promise<void>
  /** The one moment at which the point becomes visible and durable. Rejects with `session-fenced` if a collector ended it. */
  commit(summary: CommitSummary): Promise<Point>
  /** Gives the session up; safe after any failure, also of commit. */
  discard(): Promise<void>
}

export interface CommitSummary {
  kind: PointKind
  root: string
  positions: Record<string, unknown>
  sourceBytes: number
  /** Of the driver; the engine adds what its own readers missed. */
  missed: Missed[]
  fingerprint?: Fingerprint
}

/** Structurally a PointReader of src/sources/contract.ts, with random access and an end. */
export interface OpenPoint {
  readonly point: Point
  /** `wants`: of the paths from `first` on, and before `next` (null: to the end), is any wanted? Others may be left out. */
  entries(wants?: (first: EntryPath, next: EntryPath | null) => boolean): AsyncIterableIterator<Entry>
  /** Null if there is none. */
  entry(path: string): Promise<Entry | null>
  readFile(path: string): Promise<Buffer>
  /** Content of a file in order, verified, flat memory. Holes come as zeros. */
  stream(entry: Entry): AsyncIterableIterator<Buffer>
  /** Content of a file without its holes, verified, at places that ascend; what lies between them is not read. */
  cursor(entry: Entry): { read(offset: number, length: number): Promise<Buffer> }
  /**
   * Content of many files, in the order of `entries`: for each its pieces, verified, without its holes, then null. Reads
   * ahead in parallel; memory stays flat. Entries that `wants` refuses, and hard links, give their null only.
   */
  contents(
    entries: AsyncIterable<Entry>,
    wants: (entry: Entry) => boolean,
  ): AsyncIterableIterator<{ entry: Entry; bytes: Buffer | null }>
  /** What a restore of all of it reads of the store and writes. Reads the listing and no content. */
  measure(): Promise<{ readBytes: number; writeBytes: number }>
  materialize(
    directory: string,
    options: {
      signal: AbortSignal
      progress(progress: Progress): void
      warn(message: string): void
      select?(entry: Entry): boolean
      wants?(first: EntryPath, next: EntryPath | null): boolean
      last?(entry: Entry): boolean
      ownership?: boolean
      /** False: it is thrown away after use, so nothing is synced. */
      durable?: boolean
      hollow?(entry: Entry): boolean
      over?: { changing(): void; keep?(path: string, isDirectory: boolean): boolean }
      places?: readonly { path: string; directory: string }[]
    },
  ): Promise<{ bytes: number; files: number; missed: Missed[]; over?: { reusedBytes: number; removed: number } }>
  close(): Promise<void>
}

export interface SourceLog {
  putSegment(branch: string, name: string, bytes: Buffer, meta: { until: string; follows?: string }): Promise<void>
  putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: { until: string }): Promise<void>
  dropTails(branch: string, name: string): Promise<void>
  putHistory(name: string, bytes: Buffer): Promise<void>
  list(): Promise<{
    segments: { branch: string; name: string }[]
    tails: { branch: string; name: string; available: number }[]
    histories: string[]
  }>
  read(
    branch: string,
    name: string,
  ): Promise<{ bytes: Buffer; whole: boolean; meta: { until: string; follows?: string } } | null>
  holds(branch: string, name: string): Promise<boolean>
  readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]>
  readHistory(name: string): Promise<Buffer | null>
  /** What was removed on purpose: segments with from <= name < to. */
  trimmed(signal: AbortSignal): Promise<{ branch: string; from: string; to: string }[]>
  /** What a prune may be removing at this moment: what is there of it may be gone soon. */
  removing(signal: AbortSignal): Promise<{ branch: string; from: string; to: string }[]>
}

export interface VerifyOptions {
  /** False: every object that is needed is there with the right size. True: every byte is read and checked. */
  readData: boolean
  /** Only points and log of this source. */
  source?: string
  signal: AbortSignal
  progress(progress: Progress): void
}

export interface VerifyReport {
  points: number
  packs: number
  logSegments: number
  bytesRead: number
  /** Empty: all is well. */
  problems: VerifyProblem[]
}

export interface VerifyProblem {
  /** Name of the object in storage. */
  object: string
  /** 'missing', 'size', 'changed', 'unreadable'. */
  kind: 'missing' | 'size' | 'changed' | 'unreadable'
  detail: string
  /** Points that cannot be restored whole because of it, with up to 100 paths each. */
  hurts: { point: string; source: string; paths: string[] }[]
}

export interface RepairPlan {
  steps: RepairStep[]
  /** What no step mends. */
  left: UnmendedProblem[]
}

export interface RepairStep {
  action:
    | 'index-packs'
    | 'remove-segments'
    | 'set-aside-packs'
    | 'mark-all-packs'
    | 'write-receipts'
    | 'remove-pins'
    | 'write-companions'
  /** Names of the objects in storage that it is about. */
  objects: string[]
  why: string
}

export interface FetchStep {
  action: 'fetch-chunks' | 'fetch-log'
  /** The points (ends/ID) that miss chunks; the pieces of the log. */
  objects: string[]
  why: string
}

/** What may be brought from one other repository. */
export interface FetchPlan {
  steps: FetchStep[]
  problems: UnmendedProblem[]
  /** What nothing there can mend. */
  left: UnmendedProblem[]
}

export interface FetchReport {
  /** Brought back, pages of listings included. */
  chunks: number
  bytes: number
  logObjects: number
  /** What was looked for there in vain. */
  left: UnmendedProblem[]
}

export interface UnmendedProblem extends VerifyProblem {
  advice: string
}

/** What a policy gives up: `planPrune` makes a plan of it. */
export interface PruneRequest {
  /** Points to remove, each with its reason, for its record. An id that does not count but has a receipt is a loss that is accepted. */
  expire: readonly { id: string; reason: string }[]
  /** Log that no kept point needs: segments and tails with from <= name < to, in the order of text. */
  trimLog: readonly LogRange[]
  /** Ids of all points that the policy weighed: a source that has others when the log would go keeps it this time. */
  weighed: readonly string[]
  signal: AbortSignal
  progress(progress: Progress): void
}

export interface LogRange {
  source: string
  branch: string
  from: string
  to: string
}

/** Plain data, of one repository and one moment. It may be carried out much later: then less of it may be done, never more. */
export interface PrunePlan {
  /** Id of the repository. */
  repository: string
  /** Those that were asked for, and those whose expiry was begun earlier. */
  expire: { id: string; source: string; committedAt: string; reason: string }[]
  trimLog: (LogRange & { segments: number; bytes: number })[]
  weighed: string[]
  packs: {
    total: number
    remove: PlannedPack[]
    repack: PlannedPack[]
  }
  /** freed = what the removed and repacked packs hold − what is written anew. */
  bytes: { total: number; freed: number; repacked: number }
  /** Without an end, their writer dead or silent for too long: fenced. Ended without a commit: cleared away. */
  sessions: { session: string; source: string; startedAt: string; why: 'dead' | 'silent' | 'aborted' }[]
  pins: { pin: string; point: string; startedAt: string; why: 'dead' | 'silent' }[]
  /** What cannot be done this time, and why: a backup runs elsewhere, a log has a writer. For people. */
  waits: string[]
}

export interface PlannedPack {
  /** Hex. */
  name: string
  bytes: number
  /** Of these, bytes of chunks (before compression) that a point needs and that no other pack keeps, as a share of all in it, 0 to 1. */
  needed: number
  /**
   * `dead`: no point needs anything of it. `redundant`: other packs hold all that is needed. `unindexed`: no index names it.
   * `marked`: an earlier prune marked it. `sparse`: little of it is needed. `epoch`: its data key is to be given up.
   */
  why: 'dead' | 'redundant' | 'unindexed' | 'marked' | 'sparse' | 'epoch'
}

export interface PruneReport {
  expired: string[]
  /** Removed: all that are gone, those included whose rest was written anew (repacked). */
  packs: { removed: number; repacked: number }
  logSegments: number
  /** Of packs, index and log that are gone, less what was written anew. */
  bytesFreed: number
  /** Fenced or cleared away. */
  sessions: number
  pins: number
  /** Bytes that were marked and are removed by the next prune; `waits` says why. */
  bytesLater: number
  waits: string[]
}

export type { ByteCounts, PaceLimits }
