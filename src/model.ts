/**
 * The nouns that cross the seams: what a source hands over, what a repository keeps, what an operation reports.
 * Types and the few pure functions that define their order; no I/O, imported by everyone.
 */

/**
 * A path inside a source's root: components joined by `/`, no leading slash, `''` is the root itself.
 *
 * File names are bytes, so this is Python's "surrogateescape" convention (PEP 383): valid UTF-8 is ordinary text, any
 * other byte B is the lone surrogate U+DC00+B. `src/filesystem/names.ts` converts; recover.py's `os.fsencode` agrees.
 */
export type EntryPath = string

export type EntryType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character-device' | 'block-device'

/** One record of a listing, stored as one JSON line (docs/format.md, Listing). Absent means "none". */
export interface Entry {
  path: EntryPath
  type: EntryType
  /** Permission bits, 0 to 0o7777. */
  mode: number
  uid: number
  gid: number
  /** Names at backup time, for people; restore uses the numbers. */
  owner?: string
  group?: string
  /** Nanoseconds since the epoch, in decimal: larger than a double holds. May be negative. */
  mtime: string
  /** Change detection only, never restored. */
  ctime?: string
  inode?: string
  device?: string
  /** Bytes, holes included. Files only. */
  size?: number
  /** Path of the first entry of this listing with the same inode: this entry has no content of its own. */
  hardLink?: EntryPath
  /** Symbolic link's text, in the same convention as paths. */
  target?: string
  /** Device numbers of a device node. */
  major?: number
  minor?: number
  /** Extended attributes, ACLs included (system.posix_acl_*): name (in the convention of paths) to base64 of the value. */
  xattrs?: Record<string, string>
  /** Data ranges [offset, length] of a sparse file, ascending; the content is these ranges end to end. Absent: no holes. */
  extents?: [number, number][]
  /** Base64 of the chunk ids, 32 bytes each, end to end. Files with content of up to 256 chunks. */
  chunks?: string
  /** Base64 of ids of chunks which hold, end to end, this file's chunk ids. Files with more than 256 chunks. */
  chunkLists?: string
  /** Set when the bytes kept are not a faithful copy of one moment: the reason, for people. Also in the point's `missed`. */
  damaged?: string
}

/**
 * Order of a listing: a directory before what it holds, siblings by UTF-16 code units of their names (JavaScript's `<`),
 * which is the order of a depth-first walk. Negative, zero or positive.
 */
export function comparePaths(a: EntryPath, b: EntryPath): number {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    // The separator sorts below every other unit, so a directory's content follows it at once.
    if (x !== y) return (x === 0x2f ? -1 : x) - (y === 0x2f ? -1 : y)
  }
  return a.length - b.length
}

/** A thing that is not in a point though it was asked for, and why. */
export interface Missed {
  path: string
  /** Stable word for programs: 'unreadable', 'vanished', 'changed', 'damaged', 'unsupported'. */
  reason: 'unreadable' | 'vanished' | 'changed' | 'damaged' | 'unsupported'
  /** One sentence for people. */
  detail: string
}

export type PointKind = 'full' | 'incremental'

/** One committed recovery point, as kept in its repository. Always complete in itself, whatever `kind` says of its transfer. */
export interface Point {
  /** 32 hex digits, random; also the name of the session that wrote it. */
  id: string
  service: string
  source: string
  /** The driver: 'files', 'postgres'. */
  sourceType: string
  /** How it was taken: all read, or only what changed. */
  kind: PointKind
  /** RFC 3339 UTC by the backup host's clock: for people and retention, never for correctness. */
  startedAt: string
  committedAt: string
  /** False when `missed` is not empty. */
  complete: boolean
  /** At most 1000 are kept; `missedCount` counts all. */
  missed: Missed[]
  missedCount: number
  /** Where the source's tree stood: restore lays entries out relative to its target. */
  root: string
  /** What the driver needs to restore and to find the log: JSON, of the driver's own shape. */
  positions: Record<string, unknown>
  /** Number of entries, and of bytes of their content. */
  entries: number
  bytes: ByteCounts
  /** Id of the listing's root page (64 hex digits). */
  listing: string
  label?: string
  tool: string
  /** The newest commit of this source that the writer saw: id, and SHA-256 of its commit object (hex). */
  previous?: { id: string; sha256: string }
  /** Of a copy from another repository: where the point was first taken. Its times and positions are that one's. */
  origin?: PointOrigin
  /** Of databases, where it could be taken: what a restore can be compared with. */
  fingerprint?: Fingerprint
}

/** What databases held, each in one snapshot: to compare with what a restore or a drill brings back (sources/fingerprint.ts). */
export interface Fingerprint {
  /** RFC 3339 UTC, by the server's clock, when the first of them was looked at. */
  at: string
  /** Where the log stood then; a restore to this moment holds these counts. Absent: the source has no log. */
  lsn?: string
  databases: DatabaseFingerprint[]
}

export interface DatabaseFingerprint {
  name: string
  /** Why it could not be looked at, for people; then all else is empty. Absent: it was. */
  problem?: string
  /** 64 hex digits that stand for all definitions but texts of expressions, owners and privileges. */
  schema: string
  /** Tables and partitions, those of extensions left out. */
  tables: number
  largeObjects: number
  /** Of the largest tables, largest first; bounded. */
  counts: TableCount[]
  /** All other tables together, by the server's statistics. */
  others: { tables: number; rows: number }
}

export interface TableCount {
  /** SCHEMA.TABLE, quoted as SQL needs it. */
  table: string
  /** Null: nobody knows. */
  rows: number | null
  /**
   * `sampled`: counted in some blocks and scaled. `estimated`: by the server's statistics, because the role may not read it
   * or time was up. `left-out`: its rows are not in the point, on purpose.
   */
  how: 'exact' | 'sampled' | 'estimated' | 'left-out'
}

/** Tells what was taken once and is kept in several repositories. */
export interface PointOrigin {
  /** Id of the repository, 32 hex digits. */
  repository: string
  /** Id of the point there. */
  point: string
}

/** Where a point of the repository given was first taken: equal for all copies of it. */
export function originOf(point: Pick<Point, 'id' | 'origin'>, repository: string): PointOrigin {
  return point.origin ?? { repository, point: point.id }
}

export interface ByteCounts {
  /** Size of the source as it stands. */
  source: number
  /** Read from it for this point. */
  read: number
  /** Of chunks that the repository did not have. */
  new: number
  /** Written to storage, after compression and encryption. */
  stored: number
}

/** Where a running operation stands; counts only grow. Totals are absent while unknown. */
export interface Progress {
  phase: string
  bytesDone: number
  bytesTotal?: number
  filesDone?: number
  filesTotal?: number
  /** Milliseconds that it has waited until now because others kept the processors busy; left out if none. */
  gaveWayMs?: number
}

/** A result of a preflight: `error` means a backup or its restore will not work. */
export interface Finding {
  severity: 'ok' | 'warning' | 'error'
  /** Stable word, for programs: 'wal-level', 'replication-rights'. */
  code: string
  message: string
  /** What to do, as a command or a setting where possible. */
  fix?: string
}

/** What deeper code gets instead of the wall clock, the environment and global randomness; made in src/main.ts. */
export interface Ambient {
  /** Milliseconds since the epoch. */
  now(): number
  /** Cryptographically secure. */
  randomBytes(size: number): Buffer
  /** Left out where nothing can be told of processes. */
  process?: {
    /** This process, as no other of any host and time is called. */
    identity: string
    /** Null: of another host or namespace, so nobody here can tell. */
    isAlive(identity: string): boolean | null
  }
  /** One line for the operator's log; never a secret. */
  log(level: 'debug' | 'info' | 'warning' | 'error', message: string, fields?: Record<string, unknown>): void
}
