import type { RegainError } from '../errors.ts'
import type { Entry, EntryPath, Finding, Fingerprint, Missed, Point, PointKind, Progress } from '../model.ts'

/**
 * A source: one thing of a service that holds data. A driver turns it into entries (backup), and entries back into it
 * (restore). It never sees storage, keys or the repository's format: operations hand it the interfaces below, which the
 * engine implements. Every driver passes test/contract/source.ts.
 */
export interface Source {
  /** 'files', 'postgres'. */
  readonly type: string
  /** Hands over entries in any order, not by comparePaths. Such a source has at most two million files. */
  readonly unordered?: boolean
  /** For people: '/srv/shop/uploads', 'postgres://db.example:5432'. Never a secret. */
  readonly description: string

  /** Preflight: what would keep a backup or its restore from working, with a fix for each. Never changes anything. */
  check(options: SourceOptions): Promise<Finding[]>

  /** Reads the source into `writer`, entry by entry in comparePaths order unless `unordered`. Neither commits nor discards: the caller does. */
  backup(writer: PointWriter, options: BackupOptions): Promise<SourceSummary>

  /** Brings a point back into `target`. The target's emptiness has been checked by the caller. */
  restore(reader: PointReader, target: RestoreTarget, options: SourceOptions): Promise<RestoreSummary>

  /** Tables, a schema or a database alone, out of a point of the whole. Absent: the source has no such parts. */
  readonly parts?: PartsRestore
}

export interface PartsRestore {
  /**
   * What will be done, for people, in order. Rejects with what can be known to keep it from working; changes nothing. `open`
   * gives the point's content to those who need it for that.
   */
  plan(point: Point, target: PartsTarget, options: SourceOptions, open: () => Promise<PointReader>): Promise<string[]>
  /** All or nothing: when it rejects, nothing is at the target, and nothing is left of what it needed meanwhile. */
  restore(reader: PointReader, target: PartsTarget, options: SourceOptions): Promise<PartsSummary>
}

export interface PartsTarget {
  /** One database; of that one schema or some tables, or all of it. */
  selection: PartsSelection
  /** Absolute path, or a connection URL. */
  to: string
  at: RestoreMoment
  /** What is there of it is replaced. Only drivers of tenants can. */
  overwrite?: true
}

/** Nothing named: all databases, with what belongs to none of them. Not every driver can. */
export interface PartsSelection {
  /** Null: the one that the source's configuration names. */
  database: string | null
  schema: string | null
  /** [SCHEMA.]TABLE, as a person writes it. */
  tables: readonly string[]
}

export interface PartsSummary extends RestoreSummary {
  /** Without a secret. */
  target: string
  database: string
  /** Tables, as SCHEMA.TABLE, with their partitions; empty if a schema or a database was asked for. */
  tables: string[]
  reached: string
}

export interface SourceOptions {
  signal: AbortSignal
  progress(progress: Progress): void
  /** One line for people about something that did not stop the operation. */
  warn(message: string): void
}

export interface BackupOptions extends SourceOptions {
  /** Asked for by the person; a driver that cannot do an incremental does a full one and says why by `warn`. */
  kind: PointKind
  /** Of a source that stands for one tenant: which, as its data says it. Absent: as its last point says. */
  tenant?: string
  /** Of a source of all tenants: where their points go. */
  tenants?: TenantPoints
}

/** Points of tenants, each in a repository with keys of its own. */
export interface TenantPoints {
  /** Stands for the tenant wherever its name must not be read. Always the same. */
  idOf(tenant: string): string
  /**
   * Takes a point of the tenant with what `fill` writes, and resolves when it is committed. Rejects with what `fill` rejects
   * with, or with what keeps this tenant's repository from being used; then there is no point. One at a time.
   */
  take(
    tenant: string,
    fill: (writer: PointWriter, options: Pick<SourceOptions, 'signal'>) => Promise<SourceSummary>,
  ): Promise<{ id: string; point: string; bytes: number }>
}

export interface SourceSummary {
  kind: PointKind
  root: string
  positions: Record<string, unknown>
  /** Bytes of the source as it stands. */
  sourceBytes: number
  missed: Missed[]
  fingerprint?: Fingerprint
  /**
   * The point is whole, but its source was not left as it was found and a person must see to that. The point is committed
   * all the same, and then the run is reported as failed with this error.
   */
  trouble?: RegainError
}

/**
 * Takes the entries of one point. Calls must not overlap: await each. Each resolves when the entry is accepted, which
 * holds the caller back while queues are full; content is stored later, at the latest by the commit, which fails if any was lost.
 */
export interface PointWriter {
  /** The newest point of this source that counts and that this session may reuse content from. Null: first backup. */
  readonly base: BasePoint | null

  /** An entry without content: directory, link, device, empty file, hard link. */
  add(entry: Entry): Promise<void>

  /**
   * A regular file that the engine's workers read from the local file system. `path` is what to open. If the file
   * vanishes, cannot be read, or changes while read, `missed` hears of it (the writer decides whether the entry stays:
   * vanished and unreadable are left out; changed is kept with `damaged` set). If the file changed since `entry` was made
   * of it, or another one took its place, `entry` is given the attributes of what was read; with `sameInode` another one
   * is not read, and the file has vanished.
   */
  addFile(
    entry: Entry,
    path: Buffer,
    missed: (missed: Missed) => void,
    options?: { sameInode?: boolean },
  ): Promise<void>

  /**
   * A file whose bytes arrive from elsewhere. Fixed-size, page-aligned chunks for database files; content-defined ones
   * otherwise, smaller for dumps, where what changes lies scattered. `entry.size` must be the number of bytes that will be
   * written, or where `entry.extents` tells of holes, those ranges' sum; the writer checks it at `end`. It may be left out
   * if nobody knows it yet (not of pages): then `end` sets it. Several streams may be open at once, up to 16, and their
   * writes may overlap each other, as may no calls that add entries.
   */
  addStream(entry: Entry, chunking: 'pages' | 'content' | 'dump'): Promise<ContentStream>

  /**
   * An entry whose content is that of `from`, an entry of `base`: no byte is read, and `entry` is given what describes it.
   * False if the content can no longer be reused (a chunk is gone or marked for removal): add it by reading instead.
   */
  addUnchanged(entry: Entry, from: Entry): Promise<boolean>

  /**
   * A file of pages whose content is that of `from`, an entry of `base` which was added as pages, with some of its bytes
   * replaced. `entry.size` may differ: the end is cut off, or zeros follow. What no change touches is not read. Null if
   * the content can't be reused: then the file is needed whole.
   */
  addPatched(entry: Entry, from: Entry): Promise<PatchStream | null>

  /** Whether `addPatched` takes an entry of `base`; this does not change while the session lasts. */
  isPatchable(from: Entry): Promise<boolean>

  /** Content will come soon: what stores it may be made ready meanwhile. */
  expectContent(): void

  /**
   * Resolves when every file given to addFile has been read to its end or reported as missed: only then may an
   * application that was quiesced for the backup go on. Entries may still follow. What has come so far is written to its
   * end meanwhile, so whoever has more to do than to commit calls it first.
   */
  allRead(): Promise<void>
}

export interface ContentStream {
  /** Copies `bytes`; the caller may reuse its buffer after the promise settles. */
  write(bytes: Buffer): Promise<void>
  end(): Promise<void>
}

export interface PatchStream {
  /** Ascending offsets, no overlap, within the size. Copies `bytes`. */
  write(offset: number, bytes: Buffer): Promise<void>
  end(): Promise<void>
}

export interface BasePoint {
  readonly point: Point
  /** Entries in order, one after the other; to be read alongside the walk of the source. */
  entries(): AsyncIterableIterator<Entry>
  /** The same, many at a time: each await costs about as much as comparing an entry with what it stands for. */
  leaves(): AsyncIterableIterator<readonly Entry[]>
  /** Content of a file in order, every chunk verified. */
  content(entry: Entry): AsyncIterableIterator<Buffer>
}

/** Gives back one committed point. */
export interface PointReader {
  readonly point: Point
  /** Entries in order. `wants` as for materialize. */
  entries(wants?: WantsPaths): AsyncIterableIterator<Entry>
  /** Whole content of a small file (up to 16 MiB), every chunk verified. */
  readFile(path: string): Promise<Buffer>
  /**
   * Content of files, in the order of `entries`: for each its pieces, every chunk verified, without its holes, then null. Reads
   * ahead in parallel; memory stays flat. Entries that `wants` refuses, and hard links, give their null only.
   */
  contents(
    entries: AsyncIterable<Entry>,
    wants: (entry: Entry) => boolean,
  ): AsyncIterableIterator<{ entry: Entry; bytes: Buffer | null }>
  /**
   * Creates entries below `directory` (made if absent, else empty), content in parallel, attributes last, everything
   * durable when it resolves. Entries with hostile paths make it fail before anything is written outside.
   * `select` leaves entries out, `last` holds some back until all others are durable. `wants` spares reading the parts of
   * a listing of which `select` would leave out everything.
   */
  materialize(directory: string, options: MaterializeOptions): Promise<RestoreSummary>
}

/** Of the paths from `first` on, and before `next` (null: to the end), is any wanted? Those of others may be left out. */
export type WantsPaths = (first: EntryPath, next: EntryPath | null) => boolean

export interface MaterializeOptions extends SourceOptions {
  select?(entry: Entry): boolean
  wants?: WantsPaths
  /**
   * Few, small files that are written when all others are durable, and not at all (`missed`, damaged) if any was lost:
   * without them an unfinished restore can't be used by mistake.
   */
  last?(entry: Entry): boolean
  /** Files that are made with their size and without their content: they read as zeros, and take no room. */
  hollow?(entry: Entry): boolean
  /** False: files belong to the user who runs the restore (needed when not root). Default true when root. */
  ownership?: boolean
  /** False: it is thrown away after use, so nothing is synced, which holds up all that writes to the file system. */
  durable?: boolean
  /**
   * Over what is there: what differs is written, and what the entries do not have is removed (not where `select` leaves
   * entries out) unless `keep` speaks for it. What is there is compared byte by byte. Nothing is changed, and `changing` not called, if a chunk is known to be lost.
   * The caller removes beforehand what `last` holds back.
   */
  over?: { changing(): void; keep?(path: EntryPath, isDirectory: boolean): boolean }
  /**
   * Directories elsewhere that stand for the directory entries of these paths, with all below them. They must exist and,
   * unless `over`, be empty. What stands beside the entries at the top of one is left alone.
   */
  places?: readonly { path: EntryPath; directory: string }[]
}

export interface RestoreTarget {
  directory: string
  /** What the person asked for; a driver refuses what it cannot do. */
  at: RestoreMoment
  /** Glob over paths; null: everything. */
  path: string | null
  /** Start the restored thing and report the moment really reached. */
  start: boolean
  /**
   * Over what is in the directory; absent: it is empty. The driver refuses what is not of the same source, or in use, and
   * calls `changing` before it first changes anything.
   */
  inPlace?: InPlace
  /** Only the content of these of its databases, in a whole cluster; the others are left without. Absent: of all. */
  onlyDatabases?: readonly string[]
  /** Folders for what its original kept in folders of their own, by the driver's name of each. Absent: the driver's choice. */
  tablespaces?: Readonly<Record<string, string>>
}

export interface InPlace {
  /** What is there was left by a restore of this very source that was cut short: it may lack what tells whose it is. */
  resumes: boolean
  changing(): void
}

export type RestoreMoment = (
  | { kind: 'latest' }
  | { kind: 'time'; time: string }
  | { kind: 'point'; id: string }
  | { kind: 'lsn'; lsn: string }
  | { kind: 'xid'; xid: string }
  | { kind: 'name'; name: string }
) &
  LogChoice

/** For sources whose log can fork, as PostgreSQL's timelines do. */
export interface LogChoice {
  /** A timeline by its number, or that of the point which is restored. Absent: the newest that the moment is on. */
  timeline?: number | 'current'
  /** Of a time, a position or a transaction: right before it. Absent: with it. */
  exclusive?: true
}

export interface RestoreSummary {
  bytes: number
  files: number
  /** Entries or attributes that could not be brought back, each with the reason. */
  missed: Missed[]
  /** RFC 3339 or position really reached, where the driver knows. */
  reached?: string
  /** How to connect to what was started. */
  connection?: string
  /** Databases that were left without their content, as was asked for. */
  leftOut?: string[]
  /** Of a restore over what was there: bytes that were right already (`bytes` are those written), and how many things were removed. */
  over?: { reusedBytes: number; removed: number }
}

/**
 * The continuous log of one source in its repository: immutable segments, and short-lived tails of the unfinished one.
 * Names are the driver's, ordered by plain string comparison within a `branch` (PostgreSQL: timeline, 8 hex digits).
 */
export interface LogStore {
  /**
   * Stores a whole segment durably. Idempotent for equal bytes; other bytes under the same name reject with
   * `log-conflict` and change nothing. Resolves once durable.
   */
  putSegment(branch: string, name: string, bytes: Buffer, meta: LogMeta): Promise<void>

  /** Stores bytes [offset, offset+bytes.length) of the unfinished segment `name` durably. Removed with `dropTails`. */
  putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: LogMeta): Promise<void>

  /** Removes the tails of a segment that is now stored whole. */
  dropTails(branch: string, name: string): Promise<void>

  /** A small object that belongs to a branch (timeline history). Same rules as putSegment. */
  putHistory(name: string, bytes: Buffer): Promise<void>

  /** What is there now: sizes only, nothing is opened. */
  list(): Promise<LogListing>

  /** Whether the segment is there whole. Nothing is opened. */
  holds(branch: string, name: string): Promise<boolean>

  /** The segment: whole, or the longest run from its beginning that the tails give; null if there is nothing of it. */
  read(branch: string, name: string): Promise<{ bytes: Buffer; whole: boolean; meta: LogMeta } | null>

  /**
   * `until` of each of these pieces, a little of each read. Null: there is nothing of it, or what there is is damaged there, which is
   * told; that the rest of it is sound is not known.
   */
  readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]>

  readHistory(name: string): Promise<Buffer | null>
}

/** A log as a recovery sees it. */
export type LogReader = Pick<LogStore, 'list' | 'read' | 'readUntil' | 'readHistory'>

export interface LogMeta {
  /** RFC 3339 UTC, by the source's clock where the protocol tells it: the moment up to which this piece holds the log. */
  until: string
  /** Whole segments: the segment of this branch that the store held right before it. Verification misses it if it goes. */
  follows?: string
}

export interface LogListing {
  /** Sorted by branch, then name. */
  segments: { branch: string; name: string }[]
  /** Unfinished segments of which tails are kept: bytes available from the beginning. */
  tails: { branch: string; name: string; available: number }[]
  histories: string[]
}

/**
 * A running follower of a log. `run` returns when the signal fires (cleanly, tail shipped) and rejects when it cannot go
 * on; the daemon starts it again with a bounded, growing delay.
 */
export interface LogFollower {
  run(options: FollowerOptions): Promise<void>
}

/**
 * Watches what a source keeps for a log that could not be stored yet, whether or not a follower runs. Works without the
 * repository: it is there for the time when that is away.
 */
export interface LogGuard {
  /** What is kept now, by server; empty: nothing is. Changes nothing. */
  look(signal: AbortSignal): Promise<KeptLog[]>
  /** Lets a server forget what it keeps. What it forgets is missing from the log; a follower goes on behind it. */
  giveUp(kept: KeptLog, signal: AbortSignal): Promise<void>
}

export interface KeptLog {
  /** For people: 'db.example:5432'. */
  server: string
  /** False: the log is followed from another server of the same source, so nothing is missed if this one forgets. */
  isFollowed: boolean
  keptBytes: number
  /** Size from which the source itself gives the log up; null: it never does. */
  ownLimitBytes: number | null
  /** Size of the data, asked for only when much is kept. */
  dataBytes: number | null
  /** Of the file system that the log is on; null: it can't be seen from here. */
  disk: { freeBytes: number; totalBytes: number } | null
}

export interface FollowerOptions {
  signal: AbortSignal
  warn(message: string): void
  /** Called at least every few seconds while connected. */
  status(status: FollowerStatus): void
}

export interface FollowerStatus {
  /** Position durable in the repository, and the server's current one, in the source's own notation. */
  durable: string
  server: string
  lagBytes: number
  /** RFC 3339 UTC: everything the source had committed by then is durable. Null: not known yet. */
  durableUntil: string | null
  /** Why a new point should be taken now: the log has a break that no earlier point can cross. Absent: it has none. */
  needsPoint?: string
}
