import type { Entry, Missed } from '../../model.ts'
import type {
  BytesJob,
  Chunking,
  FileState,
  FileToRead,
  FreshAttributes,
  PatchJob,
  PatchReply,
  ReadOutcome,
  StoredBytes,
  StoredFiles,
  StoredRange,
} from '../compute/messages.ts'
import type { Pool } from '../compute/pool.ts'
import { READ_ATTEMPTS, SMALL_FILE_BYTES } from '../compute/read-files.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import { EntryOrder, type Pending } from '../listing/entry-order.ts'
import { ClaimTable } from '../packs/claim-table.ts'
import { joinRanges, RANGE_BYTES } from './file-ranges.ts'

/**
 * Small files travel to the threads together, up to this many and this much. Not more of them: what is on its way there
 * when V8 empties its nursery outlives it, and fills the old heap with garbage.
 */
const BATCH_FILES = 64
const BATCH_BYTES = 4 * 1024 * 1024
/** Entries with up to this many chunks carry their ids; more go to lists of up to LIST_IDS. */
export const INLINE_CHUNKS = 256
export const LIST_IDS = 8192
/** Entries that may wait for an earlier one's content. */
const MAX_WAITING = 20_000
/** Metadata pages keep to one thread, so that they share packs. */
const METADATA_THREAD = 0

interface BatchItem {
  pending: Pending
  file: FileToRead
  missed(missed: Missed): void
}

export interface ContentListeners {
  /** Entries whose content is stored or on its way into a pack, in the order in which they were added. */
  ready(entry: Entry): void
  missed(missed: Missed): void
  progress(bytesDone: number, filesDone: number): void
}

/**
 * Between the source that hands over entries and the threads that store content: groups small files, splits large ones,
 * and gives entries on in order as their content becomes known. Bounded: `room` holds the caller back.
 */
export class ContentQueue {
  readonly claims = ClaimTable.create()
  bytesRead = 0
  filesDone = 0
  private readonly pool: Pool
  private readonly session: number
  private readonly listeners: ContentListeners
  private readonly maxJobs: number
  private readonly order: EntryOrder
  private batch: BatchItem[] = []
  private batchBytes = 0
  private jobs = 0
  private failure: { error: unknown } | null = null
  private readonly waiters: (() => void)[] = []

  constructor(pool: Pool, session: number, listeners: ContentListeners) {
    this.pool = pool
    this.session = session
    this.listeners = listeners
    this.maxJobs = pool.threadCount * 2
    this.order = new EntryOrder((entry) => this.giveOn(entry))
  }

  /** The first failure decides: every later call rejects with it. */
  fail(error: unknown): void {
    this.failure ??= { error }
    this.wake()
  }

  throwIfFailed(): void {
    if (this.failure) throw this.failure.error
  }

  /** So many entries wait for content that no other may be added. What streams have collected must be sent now. */
  get isCrowded(): boolean {
    return this.order.size > MAX_WAITING
  }

  /** Resolves when another entry may be added. Null: now, as nearly always; and a wait costs each of millions of them. */
  room(): Promise<void> | null {
    this.throwIfFailed()
    return this.jobs < this.maxJobs && !this.isCrowded ? null : this.makeRoom()
  }

  private async makeRoom(): Promise<void> {
    while (this.jobs >= this.maxJobs || this.isCrowded) {
      this.sendBatch()
      await this.change()
      this.throwIfFailed()
    }
  }

  /** Resolves when another job may be given to the threads, however many entries wait for one. */
  async jobRoom(): Promise<void> {
    this.throwIfFailed()
    while (this.jobs >= this.maxJobs) {
      await this.change()
      this.throwIfFailed()
    }
  }

  /** Resolves when everything added has been given on. */
  async drain(): Promise<void> {
    this.sendBatch()
    while (this.jobs > 0 || this.order.size > 0) {
      this.throwIfFailed()
      await this.change()
    }
    this.throwIfFailed()
  }

  /** Resolves when no job is under way any more, failed or not. */
  async settled(): Promise<void> {
    this.batch = []
    while (this.jobs > 0) await this.change()
  }

  addReady(entry: Entry): void {
    if (entry.type === 'file') this.filesDone++
    this.order.add(entry, 'ready')
    this.wake()
  }

  /** With `sameInode`, a file that took this one's place since the scan is not read for it: it counts as vanished. */
  addFile(entry: Entry, path: Buffer, missed: (missed: Missed) => void, { sameInode }: { sameInode: boolean }): void {
    const size = entry.size ?? 0
    if (size === 0) {
      this.addReady(entry)
      return
    }
    const pending = this.addWaiting(entry)
    const { inode = '', mtime, ctime = '' } = entry
    const file = { path: path.toString('latin1'), inode, size, mtime, ctime, sameInode }
    if (size >= SMALL_FILE_BYTES) {
      this.watch(this.storeLarge(pending, file, missed))
      return
    }
    this.batch.push({ pending, file, missed })
    this.batchBytes += size
    if (this.batch.length >= BATCH_FILES || this.batchBytes >= BATCH_BYTES) this.sendBatch()
  }

  /** An entry whose content `storeParts` will bring; it is given on after `complete`. */
  addWaiting(entry: Entry): Pending {
    return this.order.add(entry, 'waiting')
  }

  /** All ids of a waiting entry's chunks are known. */
  async complete(pending: Pending, ids: Buffer): Promise<void> {
    await this.setContent(pending.entry, ids)
    this.filesDone++
    this.settle(pending, 'ready')
  }

  /** Stores parts that stand end to end in `buffer`; ids of each part. A shared buffer may be used again afterwards, another is gone. */
  async storeParts(
    buffer: ArrayBuffer | SharedArrayBuffer,
    parts: { length: number; chunking: Chunking }[],
  ): Promise<Buffer[]> {
    const reply = await this.run<StoredBytes>(
      { type: 'bytes', session: this.session, buffer, parts, metadata: false },
      null,
    )
    this.read(parts.reduce((sum, part) => sum + part.length, 0))
    return splitByCounts(Buffer.from(reply.ids), reply.counts)
  }

  /** Stores chunks of the repository with some of their bytes replaced. */
  async patch(changes: Omit<PatchJob, 'type' | 'session'>): Promise<PatchReply> {
    const bytes = changes.buffer.byteLength
    const job: PatchJob = { type: 'patch', session: this.session, ...changes }
    const reply = await this.counted(() => this.pool.run<PatchReply>(job, [job.buffer]))
    this.read(bytes)
    return reply
  }

  /** Stores one metadata chunk; its id in hex. */
  async storeMetadata(bytes: Buffer): Promise<string> {
    const buffer = new Uint8Array(bytes).buffer
    const job: BytesJob = {
      type: 'bytes',
      session: this.session,
      buffer,
      parts: [{ length: bytes.length, chunking: 'one' }],
      metadata: true,
    }
    const reply = await this.run<StoredBytes>(job, METADATA_THREAD)
    return Buffer.from(reply.ids).toString('hex')
  }

  /** Follows work that nobody awaits: its failure fails the queue. */
  watch(work: Promise<void>): void {
    work.catch((error: unknown) => this.fail(error))
  }

  private async run<Reply>(job: BytesJob, thread: number | null): Promise<Reply> {
    const transfer = job.buffer instanceof ArrayBuffer ? [job.buffer] : []
    return this.counted(() => (thread === null ? this.pool.run(job, transfer) : this.pool.runOn(thread, job, transfer)))
  }

  private async counted<Reply>(start: () => Promise<Reply>): Promise<Reply> {
    this.throwIfFailed()
    this.jobs++
    try {
      return await start()
    } finally {
      this.jobs--
      this.wake()
    }
  }

  sendBatch(): void {
    if (this.batch.length === 0) return
    const items = this.batch
    this.batch = []
    this.batchBytes = 0
    this.watch(this.storeBatch(items))
  }

  private async storeBatch(items: BatchItem[]): Promise<void> {
    const files = JSON.stringify(items.map((item) => item.file))
    const reply = await this.counted(() => this.pool.run<StoredFiles>({ type: 'files', session: this.session, files }))
    const outcomes = new Map(reply.outcomes)
    const ids = Buffer.from(reply.ids.buffer, reply.ids.byteOffset, reply.ids.length)
    this.read(reply.bytesRead)
    let at = 0
    for (const [index, item] of items.entries()) {
      const outcome = outcomes.get(index)
      const start = at
      at += (outcome?.chunks ?? 1) * ID_BYTES
      const own = ids.subarray(start, at)
      if (outcome) await this.finishFile(item, outcome, own)
      else await this.complete(item.pending, own)
    }
  }

  /** Reads all ranges again if the file changed meanwhile: otherwise they might be of different moments, or files. */
  private async storeLarge(pending: Pending, file: FileToRead, missed: (missed: Missed) => void): Promise<void> {
    let fresh: FreshAttributes | null = null
    for (let attempt = 1; ; attempt++) {
      const seen: FileToRead = fresh === null ? file : { ...file, ...stateOf(fresh) }
      const replies = await this.storeRanges(seen)
      const outcome = joinRanges(replies, seen)
      const changedTo = replies.findLast((reply) => reply.changedTo)?.changedTo
      if (changedTo && attempt < READ_ATTEMPTS) {
        fresh = changedTo
        continue
      }
      if (fresh !== null) outcome.fresh ??= fresh
      return this.finishFile({ pending, file, missed }, outcome, Buffer.concat(replies.map((reply) => reply.ids)))
    }
  }

  private async storeRanges(file: FileToRead): Promise<StoredRange[]> {
    const ranges: Promise<StoredRange>[] = []
    const whole = file.size <= RANGE_BYTES
    for (let start = 0; start < file.size; start += RANGE_BYTES) {
      const length = Math.min(RANGE_BYTES, file.size - start)
      // Holding back here bounds the queue for files of any size; the pending entry keeps its place.
      while (ranges.length > 0 && this.jobs >= this.maxJobs && !this.failure) await this.change()
      const job = { type: 'range', session: this.session, file, start, length, whole } as const
      const range = this.counted(() => this.pool.run<StoredRange>(job))
      range.then(
        (reply) => this.read(reply.bytesRead),
        () => undefined, // awaited below
      )
      ranges.push(range)
    }
    return Promise.all(ranges)
  }

  private async finishFile(item: BatchItem, outcome: ReadOutcome, ids: Buffer): Promise<void> {
    const { entry } = item.pending
    if (outcome.fresh) retake(entry, outcome.fresh.attributes)
    if (outcome.size !== undefined) entry.size = outcome.size
    if (outcome.fresh?.problem) outcome.missed ??= { reason: 'changed', detail: outcome.fresh.problem }
    if (outcome.extents) entry.extents = outcome.extents
    if (outcome.missed) this.reportMissed(item, outcome.missed)
    if (outcome.missed && outcome.missed.reason !== 'changed') return this.settle(item.pending, 'dropped')
    await this.complete(item.pending, ids)
  }

  private reportMissed(item: BatchItem, { reason, detail }: { reason: Missed['reason']; detail: string }): void {
    const missed: Missed = { path: item.pending.entry.path, reason, detail }
    if (reason === 'changed') item.pending.entry.damaged = detail
    item.missed(missed)
  }

  private async setContent(entry: Entry, ids: Buffer): Promise<void> {
    if (ids.length === 0) return
    if (ids.length <= INLINE_CHUNKS * ID_BYTES) {
      entry.chunks = ids.toString('base64')
      return
    }
    const lists: Promise<string>[] = []
    for (let at = 0; at < ids.length; at += LIST_IDS * ID_BYTES)
      lists.push(this.storeMetadata(ids.subarray(at, at + LIST_IDS * ID_BYTES)))
    entry.chunkLists = Buffer.from((await Promise.all(lists)).join(''), 'hex').toString('base64')
  }

  private settle(pending: Pending, state: 'ready' | 'dropped'): void {
    this.order.settle(pending, state)
    this.wake()
  }

  /** An entry that the listing refuses would be missing from the point: nothing can be committed any more. */
  private giveOn(entry: Entry): void {
    try {
      this.listeners.ready(entry)
    } catch (error) {
      this.fail(error)
    }
  }

  private read(bytes: number): void {
    this.bytesRead += bytes
    this.listeners.progress(this.bytesRead, this.filesDone)
  }

  private change(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve))
  }

  private wake(): void {
    if (this.waiters.length > 0) for (const resolve of this.waiters.splice(0)) resolve()
  }
}

/** Its place in the tree is the scan's; all else is of the file that was read, owner's names and attributes it lacks included. */
function retake(entry: Entry, attributes: FreshAttributes['attributes']): void {
  for (const name of ['owner', 'group', 'xattrs'] as const) delete entry[name]
  Object.assign(entry, attributes)
}

function stateOf({ attributes: { inode, size, mtime, ctime } }: FreshAttributes): FileState {
  return { inode, size, mtime, ctime }
}

function splitByCounts(ids: Buffer, counts: readonly number[]): Buffer[] {
  let at = 0
  return counts.map((count) => {
    const start = at
    at += count * ID_BYTES
    return ids.subarray(start, at)
  })
}
