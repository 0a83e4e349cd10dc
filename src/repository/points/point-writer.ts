import { availableParallelism } from 'node:os'
import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { type Entry, type Missed, originOf, type Point } from '../../model.ts'
import type { CommitSummary, PointSession, StartPoint } from '../api.ts'
import { tidy } from '../cleanup.ts'
import { gaveWayMs, type SharedPace, sharePace, stopPace } from '../compute/pace.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import { packTargetBytes } from '../format/pack.ts'
import { chunkIds } from '../listing/listing-reader.ts'
import { ListingWriter } from '../listing/listing-writer.ts'
import { PackStore } from '../packs/pack-store.ts'
import { type PatchContext, PatchWriter, patchableIds } from '../packs/patch-writer.ts'
import { type StreamChunking, StreamWriters } from '../packs/stream-writer.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { type Commit, completeReceipts, counts, readCommits } from './commits.ts'
import { ContentQueue } from './content-queue.ts'
import { lockForCommit } from './locks.ts'
import { type OpenedPoint, openPointReader } from './open-point.ts'
import { abortSession, beginSession, commitSession, giveUpSession, type WriteSession } from './write-session.ts'

const MAX_MISSED_KEPT = 1000
/** zstd level of new data: docs/decisions/0003. */
const LEVEL = 2

/** Begins a backup: the writer's steps 1 to 3, the base point pinned, the threads told. */
export async function startPoint(state: RepositoryState, request: StartPoint): Promise<PointSession> {
  const commits = await readCommits(state, {
    signal: request.signal,
    damaged: (name, error) => state.ambient.log('warning', error.message, { object: name }),
  })
  const session = await beginSession(state, request.source, request.signal)
  let base: OpenedPoint | null = null
  let writer: PointWriter | null = null
  try {
    await completeReceipts(state, commits, request.signal)
    const previous = await newestThatCounts(state, commits, request)
    base = previous ? await openBase(state, previous.point, session, request.signal) : null
    const number = state.pool.newSession()
    writer = new PointWriter(state, request, session, base, number)
    writer.begin()
    throwIfInterrupted(request.signal)
    if (previous) writer.previous = { id: previous.point.id, sha256: previous.sha256 }
    return writer
  } catch (error) {
    await (writer ? writer.release() : base?.close())
    await giveUpSession(state, session.id, 'it could not begin')
    throw error
  }
}

/**
 * The newest point of the source, proven to count now that the session exists: the record of its expiry, should it come
 * later, is kept while this session has no end, and then for its commit (collector/clean.ts).
 */
async function newestThatCounts(
  state: RepositoryState,
  commits: readonly Commit[],
  { source, signal }: StartPoint,
): Promise<Commit | null> {
  for (const commit of commits.filter(({ point }) => point.source === source).reverse())
    if (await counts(state, commit.point.id, signal)) return commit
  return null
}

/** A base that went away or is damaged costs time, not the backup. */
async function openBase(
  state: RepositoryState,
  point: Point,
  session: WriteSession,
  signal: AbortSignal,
): Promise<OpenedPoint | null> {
  try {
    return await openPointReader(state, point.id, signal, session.tombstones === 0 ? session.reusable : undefined)
  } catch (error) {
    if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
    state.ambient.log('warning', `The last point can't be used to save time: ${error.message}`)
    return null
  }
}

class PointWriter implements PointSession {
  readonly id: string
  readonly base: PointSession['base']
  previous: { id: string; sha256: string } | undefined
  private readonly state: RepositoryState
  private readonly request: StartPoint
  private readonly session: WriteSession
  private readonly opened: OpenedPoint | null
  private readonly number: number
  private readonly startedAt: string
  private readonly packs: PackStore
  private readonly content: ContentQueue
  private readonly listing: ListingWriter
  private readonly streams: StreamWriters
  private readonly stopListening: () => void
  private readonly onAbort: () => void
  private readonly pace: SharedPace | null
  private readonly missed: Missed[] = []
  private missedCount = 0
  private ended = false
  /** The threads' last data packs. A failure of it fails the content. */
  private finishing: Promise<unknown> = Promise.resolve()

  constructor(
    state: RepositoryState,
    request: StartPoint,
    session: WriteSession,
    base: OpenedPoint | null,
    number: number,
  ) {
    this.id = session.id
    this.state = state
    this.request = request
    this.session = session
    this.opened = base
    this.base = base
      ? {
          point: base.point,
          entries: () => base.entries(),
          leaves: () => base.leaves(),
          content: (entry) => base.stream(entry),
        }
      : null
    this.number = number
    this.startedAt = new Date(state.ambient.now()).toISOString()
    this.pace = sharePace(request.limits ?? {}, availableParallelism())
    this.packs = new PackStore(state, request.signal, (error) => this.content.fail(error))
    this.content = new ContentQueue(state.pool, number, {
      ready: (entry) => this.listing.add(entry),
      missed: (missed) => this.miss(missed),
      progress: (bytesDone, filesDone) => request.progress({ phase: 'reading', bytesDone, filesDone }),
    })
    this.streams = new StreamWriters(this.content, state.keys)
    this.listing = new ListingWriter(state.keys, {
      unordered: request.unordered === true,
      store: (page) => this.content.storeMetadata(page),
    })
    this.stopListening = state.pool.onPack(number, (pack, giveBack) => this.packs.take(pack, giveBack))
    this.onAbort = () => {
      this.content.fail(new RegainError('interrupted', 'The backup was interrupted. Nothing of it is visible.'))
      if (this.pace) stopPace(this.pace)
    }
    request.signal.addEventListener('abort', this.onAbort)
  }

  get gaveWayMs(): number {
    return this.pace ? gaveWayMs(this.pace) : 0
  }

  begin(): void {
    const claims = this.content.claims.share()
    const base = this.session.reusable.table.share()
    const packBytes = packTargetBytes(this.session.reusable.packCount())
    const { pace, number: session } = this
    this.state.pool.begin({ type: 'begin-session', session, base, claims, level: LEVEL, packBytes, pace })
  }

  async add(entry: Entry): Promise<void> {
    const room = this.room()
    if (room) await room
    this.content.addReady(entry)
    this.content.throwIfFailed()
  }

  async addFile(
    entry: Entry,
    path: Buffer,
    missed: (missed: Missed) => void,
    { sameInode = false }: { sameInode?: boolean } = {},
  ): Promise<void> {
    const room = this.room()
    if (room) await room
    const tell = (one: Missed) => {
      this.miss(one)
      missed(one)
    }
    this.content.addFile(entry, path, tell, { sameInode })
  }

  async addStream(
    entry: Entry,
    chunking: StreamChunking,
  ): Promise<{ write(bytes: Buffer): Promise<void>; end(): Promise<void> }> {
    const room = this.room()
    if (room) await room
    return this.streams.open(entry, chunking)
  }

  /** Every chunk, chunk lists included, must be in a listed pack outside the tombstones (step 3), or the bytes are read again. */
  async addUnchanged(entry: Entry, from: Entry): Promise<boolean> {
    const room = this.room()
    if (room) await room
    // What is kept of a damaged file is no faithful copy; it was missed then, and must be read now.
    if (from.damaged !== undefined || !this.hasListed(from)) return false
    if (from.chunkLists !== undefined && (await this.lossAsNull(() => this.hasLong(from))) !== true) return false
    takeContent(entry, from)
    this.content.addReady(entry)
    this.content.throwIfFailed()
    return true
  }

  async addPatched(entry: Entry, from: Entry): Promise<Awaited<ReturnType<PointSession['addPatched']>>> {
    const room = this.room()
    if (room) await room
    const context = this.patchContext()
    const ids = context && (await this.lossAsNull(() => patchableIds(context, from)))
    return ids && context && new PatchWriter(context, entry, from, ids, this.content.addWaiting(entry))
  }

  async isPatchable(from: Entry): Promise<boolean> {
    const context = this.patchContext()
    return context !== null && (await this.lossAsNull(() => patchableIds(context, from))) !== null
  }

  expectContent(): void {
    this.state.pool.startThreads()
  }

  /** Also when nothing was missed: a quiesced application may go on only now. What was read is finished meanwhile. */
  async allRead(): Promise<void> {
    await this.streams.flush()
    await this.content.drain()
    const finishing = this.state.pool.flush({ type: 'flush', session: this.number, dataOnly: true })
    this.content.watch(finishing)
    this.finishing = Promise.allSettled([this.finishing, finishing])
  }

  async commit(summary: CommitSummary): Promise<Point> {
    if (this.ended) throw new Error('the session has ended')
    throwIfInterrupted(this.request.signal)
    this.request.progress({ phase: 'finishing', bytesDone: this.content.bytesRead, filesDone: this.content.filesDone })
    await this.streams.finish()
    await this.content.drain()
    const listing = await this.listing.finish()
    await this.state.pool.flush({ type: 'flush', session: this.number })
    await this.packs.finish()
    this.content.throwIfFailed()
    throwIfInterrupted(this.request.signal)
    for (const missed of summary.missed) this.miss(missed)
    await lockForCommit(this.state, this.id, this.request)
    const { point } = await commitSession(this.state, this.point(summary, listing))
    this.ended = true
    await this.release()
    return point
  }

  async discard(): Promise<void> {
    if (this.ended) return
    this.ended = true
    this.content.fail(new RegainError('interrupted', 'The backup was given up. Nothing of it is visible.'))
    this.state.pool.drop(this.number)
    if (this.pace) stopPace(this.pace)
    try {
      await tidy(async (signal) => {
        try {
          await this.packs.salvage(signal, this.threadsDone())
        } finally {
          await abortSession(this.state, this.id, 'discarded by its writer', signal)
        }
      })
    } finally {
      await this.release()
    }
  }

  private async threadsDone(): Promise<void> {
    await this.content.settled()
    await this.finishing
  }

  /** Bytes of small streams that were collected but not sent may be all that thousands of entries wait for. */
  private room(): Promise<void> | null {
    return this.content.isCrowded ? this.makeRoom() : this.content.room()
  }

  private async makeRoom(): Promise<void> {
    await this.streams.flush()
    await this.content.room()
  }

  /** Frees threads and handles. Never rejects: what became of the backup is decided by then. */
  async release(): Promise<void> {
    this.request.signal.removeEventListener('abort', this.onAbort)
    try {
      await this.state.pool.end({ type: 'end-session', session: this.number })
    } catch (error) {
      this.state.ambient.log('warning', `The compute threads could not clear a session away: ${String(error)}`)
    }
    this.stopListening()
    await this.opened?.close()
  }

  private miss(missed: Missed): void {
    this.missedCount++
    if (this.missed.length < MAX_MISSED_KEPT) this.missed.push(missed)
  }

  private patchContext(): PatchContext | null {
    if (!this.opened) return null
    const { state, content } = this
    const { reusable } = this.session
    return { state, content, reusable, readChunk: this.opened.readChunk, signal: this.request.signal }
  }

  /** Null if a chunk list can't be read any more: what it names is stored again. */
  private async lossAsNull<T>(look: () => Promise<T>): Promise<T | null> {
    try {
      return await look()
    } catch (error) {
      if (isLoss(error)) return null
      throw error
    }
  }

  /** The chunks, and chunk lists, that the entry itself names. */
  private hasListed({ chunks, chunkLists }: Entry): boolean {
    if (chunks !== undefined && !this.hasIds(Buffer.from(chunks, 'base64'))) return false
    return chunkLists === undefined || this.hasIds(Buffer.from(chunkLists, 'base64'))
  }

  /** The chunks that its chunk lists name. */
  private async hasLong(from: Entry): Promise<boolean> {
    const { opened } = this
    if (!opened) return false
    for await (const id of chunkIds((list) => opened.readChunk(list), from))
      if (!this.session.reusable.has(id)) return false
    return true
  }

  private hasIds(ids: Buffer): boolean {
    for (let at = 0; at < ids.length; at += ID_BYTES)
      if (!this.session.reusable.has(ids.subarray(at, at + ID_BYTES))) return false
    return true
  }

  private point(summary: CommitSummary, listing: string): Point {
    const { request } = this
    const bytes = {
      source: summary.sourceBytes,
      read: this.content.bytesRead,
      new: this.packs.newBytes,
      stored: this.packs.storedBytes,
    }
    const previous = this.previous ? { previous: this.previous } : {}
    const { copyOf } = request
    if (copyOf) {
      if (this.missedCount > 0) throw new Error('a copy that misses something is none')
      // `previous` is of this repository, never of the other one.
      const { previous: _, ...rest } = copyOf.point
      const origin = originOf(copyOf.point, copyOf.repository)
      return { ...rest, id: this.id, entries: this.listing.entries, bytes, listing, ...previous, origin }
    }
    return {
      id: this.id,
      service: this.state.service,
      source: request.source,
      sourceType: request.sourceType,
      kind: summary.kind,
      startedAt: this.startedAt,
      committedAt: new Date(this.state.ambient.now()).toISOString(),
      complete: this.missedCount === 0,
      missed: this.missed,
      missedCount: this.missedCount,
      root: summary.root,
      positions: summary.positions,
      entries: this.listing.entries,
      bytes,
      listing,
      ...(request.label === undefined ? {} : { label: request.label }),
      ...(summary.fingerprint === undefined ? {} : { fingerprint: summary.fingerprint }),
      tool: request.tool,
      ...previous,
    }
  }
}

/** Sets what describes an entry's bytes, in the order in which ContentQueue does: the same entry gives the same page again. */
function takeContent(entry: Entry, { extents, chunks, chunkLists }: Entry): void {
  if (extents !== undefined) entry.extents = extents
  if (chunks !== undefined) entry.chunks = chunks
  if (chunkLists !== undefined) entry.chunkLists = chunkLists
}
