/**
 * A store of named, immutable objects: one destination's place for one repository.
 *
 * Every driver passes test/contract/storage.ts. The engine relies on each guarantee below; a store that lacks one is
 * refused when the repository is made.
 *
 * Names are relative, `/`-separated, of [A-Za-z0-9._-] components, none of them `.` or `..`, at most 200 characters.
 * All calls may run concurrently. All reject with RegainError: `storage-not-found`, `storage-full`, `storage-denied`,
 * `storage-unavailable` (a retry may help), `storage-locked` (put and delete: immutability forbids it, the object is as
 * it was), `interrupted` (the signal fired). No driver's call retries by itself: that is retry.ts.
 */
export interface Storage {
  /** For people: 'local /srv/backups/shop'. Never a secret. */
  readonly description: string

  /** A folder from which worker threads may read objects as files of the same names. Local storage only. */
  readonly localDirectory?: string

  /** Set if the store can keep objects from being removed or replaced by anybody, and was configured to. */
  readonly immutability?: Immutability

  /** Set for stores that are far away. No call below is ever answered from it: who can do with a copy asks for one. */
  readonly cache?: ObjectCache

  /** What the store's clock said with its last answer, milliseconds since 1970; null before. Set where answers tell it. */
  readonly lastTimeMs?: () => number | null

  /**
   * Writes an object whole. When it resolves, the object is durable and visible to every reader under its full length;
   * when it rejects, the object is either absent or whole (never partial). Replaces an existing one atomically.
   */
  put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void>

  /**
   * Like put, but only if the name is free: true if this call made the object, false if it existed (left untouched).
   * Of concurrent calls exactly one gets true. After a rejection the outcome is unknown: look.
   */
  create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean>

  /** The object, or `length` bytes from `offset`. A range past the end is cut short; the caller checks the length. */
  get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer>

  /** Size in bytes, or null if there is no such object. */
  size(name: string, options?: CallOptions): Promise<number | null>

  /**
   * All objects whose name begins with `prefix` (which ends in `/`, or is empty), in no particular order. Strongly
   * consistent: an object made before the call began and not deleted until it ends is listed.
   */
  list(prefix: string, options?: CallOptions): AsyncIterable<StoredObject>

  /** Removes an object; absent is fine. When it resolves, no later get or list sees it. */
  delete(name: string, options?: CallOptions): Promise<void>

  /**
   * Only of stores that can be full to the last byte, disks: sets some room aside for writes `fromReserve`, or what of it is
   * missing; cheap when none is. False: there is too little left for all of it.
   */
  setRoomAside?(options?: CallOptions): Promise<boolean>

  /** Releases handles. No call may follow. */
  close(): Promise<void>
}

/** What `setRoomAside` sets aside: enough for marks of 60,000 packs (2 TB), or records of 1,000 removed points. */
export const ROOM_ASIDE_BYTES = 4 * 1024 * 1024

/** One piece, or several to be written end to end. Not changed by the callee, and not kept after the call settles. */
export type Bytes = Uint8Array | readonly Uint8Array[]

export interface StoredObject {
  name: string
  /** Bytes. */
  size: number
}

export interface CallOptions {
  signal?: AbortSignal
}

export interface WriteOptions extends CallOptions {
  /** What points and logs consist of: where the store has immutability, the object is locked from the moment it exists. */
  keep?: boolean
  /** What removal must write before it can free anything: where all else is full it gets the room that was set aside. */
  fromReserve?: boolean
}

/**
 * Copies, on this machine, of objects whose names are hashes (`packs/`, `index/`) and of parts of them. A convenience: at any
 * moment one may be absent, torn, changed by somebody, or of an object that the store no longer has. So it is for who
 *
 * - proves what is given, by a hash, tag or id, just as if the store had sent it, and else drops it and asks the store;
 * - has seen the object listed in the same operation, so that a copy is what a read right then would have given;
 * - does not want to know what state the store is in: verification, collectors and repairs read the store.
 *
 * No call rejects but for a name that may not be kept. `part` tells parts of an object apart, [a-z0-9-]; empty: the whole.
 */
export interface ObjectCache {
  get(name: string, part: string): Promise<Buffer | null>
  /** Only bytes that were proven. */
  keep(name: string, part: string, bytes: Bytes): Promise<void>
  drop(name: string, part: string): Promise<void>
}

/**
 * Locked objects can be neither replaced nor removed, by nobody, until their lock ends; what others write over them is
 * never seen. Locks end a period after the end of the month (UTC) in which they were set or extended, so extending what
 * is needed once a month keeps it locked for at least the period at any time.
 */
export interface Immutability {
  readonly periodMs: number
  /** Locks the object until a period after the end of this month; rejects with `storage-not-found` if there is none. */
  extend(name: string, options?: CallOptions): Promise<void>
  /** Whether the object exists and is locked as `extend` would lock it now. */
  isExtended(name: string, options?: CallOptions): Promise<boolean>
  /** Until when (milliseconds since 1970) nobody can remove the object; 0 if it can be removed now, or there is none. */
  lockedUntil(name: string, options?: CallOptions): Promise<number>
}
