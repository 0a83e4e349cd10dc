import type { FileAttributes } from '../../filesystem/attributes.ts'
import type { TargetRoot } from '../../filesystem/target.ts'
import type { Entry } from '../../model.ts'
import type { SharedClaims } from '../packs/claim-table.ts'
import type { SharedPace } from './pace.ts'

/**
 * What the main thread and the compute threads say to each other. Buffers are transferred, tables shared, nothing large is
 * copied. A job gets exactly one reply; besides, a thread sends packs as they are finished and gets their buffers back.
 */
export interface ThreadSetup {
  domain: Uint8Array
  identity: Uint8Array
  /** The domain keys of all epochs at hand; derived keys are made in the thread. */
  keys: { epoch: number; key: Uint8Array }[]
  /** Objects can be read as files below it; null: the main thread fetches. */
  localDirectory: string | null
}

export type ToThread = { type: 'job'; id: number; job: Job } | { type: 'buffer'; session: number; buffer: ArrayBuffer }

export type FromThread =
  | { type: 'done'; id: number; reply: unknown }
  | { type: 'failed'; id: number; error: ThreadError }
  | { type: 'pack'; session: number; name: Uint8Array; buffer: ArrayBuffer; sizeBytes: number; directory: Uint8Array }

export interface ThreadError {
  /** A RegainError's code, or null for a bug. */
  code: string | null
  message: string
  hint?: string
  stack?: string
}

export type Job =
  | BeginSessionJob
  | EndSessionJob
  | FilesJob
  | RangeJob
  | BytesJob
  | FlushJob
  | RestoreJob
  | CompareJob
  | ReadChunksJob
  | PatchJob
  | CheckPackJob

export interface BeginSessionJob {
  type: 'begin-session'
  session: number
  /** A ChunkTable: what the repository held when the session began. */
  base: SharedArrayBuffer
  claims: SharedClaims
  level: number
  /** At which packs of content end. */
  packBytes: number
  /** Null: as fast as it goes. */
  pace: SharedPace | null
}
export interface EndSessionJob {
  type: 'end-session'
  session: number
}

/** Store small files, one chunk each. Reply: StoredFiles. */
export interface FilesJob {
  type: 'files'
  session: number
  /** JSON of FileToRead[]: a message costs a third as text of what it costs as so many objects. */
  files: string
}
/** As the scan saw the file; a difference means that the file changed since, or is another one. */
export interface FileToRead extends FileState {
  /** To be opened: its bytes as latin1 text, because a view of a pooled buffer would take its whole pool along. */
  path: string
  /** What took its place since the scan is not read for it. */
  sameInode: boolean
}
/** What tells whether a file is the same one, unchanged. */
export interface FileState {
  inode: string
  size: number
  mtime: string
  ctime: string
}
export interface StoredFiles {
  /** By the file's place among the job's. A file without one is as the scan saw it, and one chunk. */
  outcomes: [index: number, outcome: ReadOutcome][]
  /** Ids of all files' chunks, 32 bytes each, end to end. */
  ids: Uint8Array
  bytesRead: number
}
export interface ReadOutcome {
  chunks: number
  extents?: [number, number][]
  /** Of the file and the moment that were read, where they are not the scan's. */
  fresh?: FreshAttributes
  /** Bytes there were, if fewer or more than its attributes say. */
  size?: number
  missed?: { reason: 'unreadable' | 'vanished' | 'changed'; detail: string }
}

/** Taken from the open file: its bytes and these are of one inode. */
export interface FreshAttributes {
  attributes: FileAttributes
  /** What of them could not be read, for people; null: all could. */
  problem: string | null
}

/**
 * Store part of a large file. `whole`: it is all of it, so the thread itself reads it again if it changed; otherwise that
 * takes all ranges, and the main thread decides. Reply: StoredRange.
 */
export interface RangeJob {
  type: 'range'
  session: number
  file: FileToRead
  start: number
  length: number
  whole: boolean
}
export interface StoredRange {
  outcome: ReadOutcome
  /** Set when the file is not (any more) as the job says: its attributes after this range was read. Not if `whole`. */
  changedTo?: FreshAttributes
  ids: Uint8Array
  bytesRead: number
}

export type Chunking = 'pages' | 'content' | 'dump' | 'one'

/**
 * Store bytes: parts end to end in `buffer`. A shared one is the sender's again with the reply: buffers that are sent to
 * and fro count as new memory each time they arrive, and make the collector run. Reply: StoredBytes.
 */
export interface BytesJob {
  type: 'bytes'
  session: number
  buffer: ArrayBuffer | SharedArrayBuffer
  parts: { length: number; chunking: Chunking }[]
  /** Listing pages and chunk lists go to packs of their own. */
  metadata: boolean
}
export interface StoredBytes {
  /** Number of chunks of each part. */
  counts: number[]
  ids: Uint8Array
}

/** Finish open packs. Every pack message precedes the reply. */
export interface FlushJob {
  type: 'flush'
  session: number
  /** Packs of metadata stay open, for what is still to come. */
  dataOnly?: boolean
}

/** A pack's groups, to be read by this thread (local storage) or opened from `data`. */
export interface PackGroups {
  /** Hex. */
  pack: string
  sizeBytes: number
  groups: GroupPlace[]
  /** Sealed frames firstFrame … and the header, when the thread can't read the store itself. */
  data?: { header: Uint8Array; firstFrame: number; frames: Uint8Array }
}
export interface GroupPlace {
  offset: number
  storedBytes: number
  rawBytes: number
  method: number
}

/** Write chunks of a pack into files of the target. Reply: RestoreReply. */
export interface RestoreJob {
  type: 'restore'
  target: TargetRoot
  ownership: boolean
  source: PackGroups
  files: RestoreFile[]
  /** 32 bytes a chunk. */
  ids: Uint8Array
  /** 3 words a chunk, in order of groups: index into source.groups, offset in the raw group, length. */
  places: Uint32Array
  /** 5 numbers a piece, in order of chunks: chunk, offset in the chunk, length, index into files, offset in the file. */
  pieces: Float64Array
}
export interface RestoreFile {
  path: string
  /** The file's content is this job's pieces alone: make it, fill it, set its attributes. Else it exists and others finish it. */
  entry?: Entry
}
export interface RestoreReply {
  bytes: number
  /** Chunks that were not written: this copy of them is gone or damaged. */
  lost: { chunk: number; detail: string }[]
  /** Files that were given with their entry and miss chunks: not finished, and made only if something was written. */
  unfinished: { file: number; made: boolean }[]
  /** Attributes that could not be set. */
  warnings: { file: number; detail: string }[]
}

/** Say which pieces of the target's files hold what they should already. Reply: CompareReply. */
export interface CompareJob {
  type: 'compare'
  target: TargetRoot
  paths: string[]
  /** 3 numbers a piece, those of one file together: index into paths, offset in the file, length. Each is a whole chunk. */
  pieces: Float64Array
  /** 32 bytes a piece. */
  ids: Uint8Array
}
export interface CompareReply {
  /** Of each path: 1 if there is a regular file that can be read. */
  present: Uint8Array
  /** Of each piece: 1 if the file holds it. */
  same: Uint8Array
}

/** Give back chunks of a pack. Reply: ReadChunksReply. */
export interface ReadChunksJob {
  type: 'read-chunks'
  source: PackGroups
  /** 32 bytes a chunk. */
  ids: Uint8Array
  /** As in RestoreJob. */
  places: Uint32Array
}
export interface ReadChunksReply {
  /** The chunks end to end, each as long as asked for, those that are lost included. */
  bytes: ArrayBuffer
  /** Numbers of chunks of which this copy is gone or damaged: their bytes mean nothing. */
  lost: number[]
}

/** Store chunks of a pack with some of their bytes replaced. Reply: PatchReply. */
export interface PatchJob {
  type: 'patch'
  session: number
  source: PackGroups
  /** 32 bytes a chunk. */
  ids: Uint8Array
  /** As in RestoreJob. */
  places: Uint32Array
  /** Bytes of each new chunk: what the old one has beyond is cut off, what it lacks is zeros. */
  lengths: Uint32Array
  /** 3 numbers a replacement, in order of chunks: chunk, offset in it, length. */
  patches: Float64Array
  /** The replacements' bytes end to end. */
  buffer: ArrayBuffer
}
export interface PatchReply {
  /** 32 bytes a chunk; nothing where it is lost. */
  ids: Uint8Array
  /** Numbers of chunks of which this copy is gone or damaged: they were not stored. */
  lost: number[]
}

/** Read a whole pack and check everything. Reply: CheckPackReply. */
export interface CheckPackJob {
  type: 'check-pack'
  pack: string
  /** As the index has it: tells which chunks of a damaged pack are lost even if its own directory is. Null: not indexed. */
  directory: Uint8Array | null
  data?: ArrayBuffer
}
export interface CheckPackReply {
  bytesRead: number
  /** Null: sound. */
  problem: { kind: 'missing' | 'size' | 'changed' | 'unreadable'; detail: string } | null
  /** Ids (32 bytes each) of chunks that are lost with it; empty when sound, null if nothing of it can be read. */
  lostChunks: Uint8Array | null
}
