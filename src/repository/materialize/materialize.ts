import { ftruncateSync } from 'node:fs'
import { isRegainError, RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { type TargetRoot, TargetTree } from '../../filesystem/target.ts'
import { CLAIM_NAME, requireEmptyTarget } from '../../filesystem/target-claim.ts'
import type { Entry, EntryPath, Missed } from '../../model.ts'
import type { OpenPoint } from '../api.ts'
import type { RestoreReply } from '../compute/messages.ts'
import { chunkIds, type ListingPart, ownChunkIds } from '../listing/listing-reader.ts'
import type { ChunkPlace } from '../packs/chunk-index.ts'
import { fetchGroups, ownedBuffers, sealedBytes } from '../packs/chunk-reader.ts'
import type { Copies } from '../packs/copies.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { dropWhatIsThere } from './compare-target.ts'
import { FileLayout, type FileUnderWay, type PlannedJob, RestoreWindow, type WantedChunk } from './restore-plan.ts'
import { sweepTarget } from './sweep-target.ts'

/** Content planned at once: large enough that a pack's groups are read once, small enough to stay flat in memory. */
const WINDOW_BYTES = 128 * 1024 * 1024
const WINDOW_FILES = 8192
const JOBS_PER_THREAD = 4
/**
 * What is read and not yet written of a store that threads can't read themselves. It is far away, so this follows from the
 * line and not from the threads: 64 MiB in 50 ms are 10 Gbit/s.
 */
const JOBS_FROM_AFAR = 48
const BYTES_FROM_AFAR = 64 * 1024 * 1024
const MAX_MISSED_KEPT = 1000
/** Copies of a chunk that are tried. */
const MAX_COPIES = 3

interface Listing {
  leaves(part: ListingPart): AsyncIterable<Entry[]>
  readChunk(id: Uint8Array): Promise<Buffer>
}

type Options = Parameters<OpenPoint['materialize']>[1]

/**
 * Writes a point's entries below `directory`. First pass, in order: folders (0700) and files, whose content the threads
 * write in parallel. Second pass: hard links, symbolic links and special files, and each folder's attributes when all
 * below it is done. Links come last, so nothing is ever written through one. Then one sync of the file system, unless nothing need be durable, and in the
 * end the root loses the claim of its caller (target-claim.ts), if there is one, and gets its attributes.
 *
 * Over what is there (`options.over`): all chunks are looked up first; then what does not belong is removed, and of the
 * files that stay only those chunks are read and written that they do not hold.
 */
export async function materialize(
  state: RepositoryState,
  copies: Copies,
  listing: Listing,
  directory: string,
  options: Options,
): Promise<Materialized> {
  const target: TargetRoot = { directory, places: options.places ?? [] }
  if (options.over === undefined) for (const place of [target, ...target.places]) requireEmptyTarget(place.directory)
  const tree = TargetTree.open(target)
  try {
    const restore = new Restore(state, copies, listing, tree, target, options)
    if (options.over !== undefined) await restore.clearTheWay(options.over)
    await restore.writeFiles()
    await restore.finishTree()
    if (options.durable !== false) {
      options.progress({ phase: 'syncing', bytesDone: restore.bytes, filesDone: restore.files })
      tree.syncFilesystem()
    }
    // From here on all is durable; a crash before leaves the claim, which says that the restore is not whole.
    restore.finishRoot()
    tree.syncDirectory('')
    const { bytes, files, missed, reusedBytes, removed } = restore
    return { bytes, files, missed, ...(options.over === undefined ? {} : { over: { reusedBytes, removed } }) }
  } finally {
    tree.close()
    await state.pool.end({ type: 'end-session', session: 0 })
  }
}

type Materialized = Awaited<ReturnType<OpenPoint['materialize']>>

class Restore {
  /** Written. */
  bytes = 0
  /** Of chunks that the target's files held already. */
  reusedBytes = 0
  /** Things that the target had and the point has not. */
  removed = 0
  files = 0
  readonly missed: Missed[] = []
  private missedCount = 0
  private readonly state: RepositoryState
  private readonly copies: Copies
  private readonly listing: Listing
  private readonly tree: TargetTree
  private readonly target: TargetRoot
  private readonly options: Options
  private readonly ownership: boolean
  private readonly running = new Set<Promise<void>>()
  /** Sealed bytes of what is running. */
  private runningBytes = 0
  private failure: { error: unknown } | null = null
  private window = new RestoreWindow()
  private hasHardLinks = false
  private hasLost = false
  private root: Entry | null = null

  constructor(
    state: RepositoryState,
    copies: Copies,
    listing: Listing,
    tree: TargetTree,
    target: TargetRoot,
    options: Options,
  ) {
    this.state = state
    this.copies = copies
    this.listing = listing
    this.tree = tree
    this.target = target
    this.options = options
    this.ownership = options.ownership ?? process.getuid?.() === 0
  }

  /** Only a point that is whole, as far as the index tells, may take the place of what is there. */
  async clearTheWay(over: NonNullable<Options['over']>): Promise<void> {
    for await (const entries of this.selected())
      for (const entry of entries)
        for await (const id of chunkIds((list) => this.listing.readChunk(list), entry)) await this.find(id)
    over.changing()
    this.removed = await sweepTarget(this.each(), this.target, {
      signal: this.options.signal,
      // Where only some entries are looked at, the others are not known to be foreign.
      removeOthers: this.options.select === undefined && this.options.wants === undefined,
      keep: over.keep,
      warn: (path, details) => this.warnAttributes({ path }, details),
    })
  }

  async writeFiles(): Promise<void> {
    const last: Entry[] = []
    try {
      for await (const entries of this.selected())
        for (const entry of entries) {
          if (entry.type === 'directory') this.makeDirectory(entry.path)
          else if (entry.hardLink !== undefined) this.hasHardLinks = true
          else if (entry.type !== 'file') continue
          else if (this.options.last?.(entry)) last.push(entry)
          else await this.writeFile(entry)
        }
      await this.flush()
      await Promise.all(this.running)
      this.throwIfFailed()
      if (last.length > 0) await this.writeLast(last)
    } finally {
      await Promise.all(this.running)
    }
    this.throwIfFailed()
  }

  private makeDirectory(path: EntryPath): void {
    if (this.options.over === undefined) this.tree.makeDirectory(path)
    else this.tree.takeDirectory(path)
  }

  /** All else is durable first, so that these files are there only if all is; and only if nothing was lost. */
  private async writeLast(entries: readonly Entry[]): Promise<void> {
    if (this.hasLost) {
      const detail = 'It was held back, because other files are lost.'
      for (const entry of entries) this.miss({ path: displayPath(entry.path), reason: 'damaged', detail })
      return
    }
    if (this.options.durable !== false) this.tree.syncFilesystem()
    for (const entry of entries) await this.writeFile(entry)
    await this.flush()
  }

  /** A hard link may lead into any folder, and a folder's mode may lock it: then all links come before all modes. */
  async finishTree(): Promise<void> {
    const others = { withoutFiles: true }
    if (this.hasHardLinks)
      for await (const entries of this.selected(others)) for (const entry of entries) this.makeOther(entry)
    const open: Entry[] = []
    const closeUntil = (path: EntryPath | null) => {
      for (let last = open.at(-1); last && (path === null || !isBelow(path, last.path)); last = open.at(-1)) {
        open.pop()
        if (last.path === '') this.root = last
        else this.warnAttributes(last, this.tree.setAttributes(last, { ownership: this.ownership }))
      }
    }
    for await (const entries of this.selected(others))
      for (const entry of entries) {
        closeUntil(entry.path)
        if (entry.type === 'directory') open.push(entry)
        else if (!this.hasHardLinks) this.makeOther(entry)
      }
    closeUntil(null)
  }

  finishRoot(): void {
    this.tree.removeFile(CLAIM_NAME)
    if (this.root === null) return
    this.warnAttributes(this.root, this.tree.setAttributes(this.root, { ownership: this.ownership }))
  }

  private makeOther(entry: Entry): void {
    if (entry.hardLink !== undefined) this.makeHardLink(entry)
    else if (entry.type !== 'file' && entry.type !== 'directory') this.makeSpecial(entry)
  }

  /** Entries in order, many at a time, each one's folder proven to be a folder of this listing that came before it. */
  private async *selected(part: ListingPart = {}): AsyncGenerator<Iterable<Entry>, void, undefined> {
    const folders: EntryPath[] = []
    for await (const entries of this.listing.leaves({ ...part, wants: this.options.wants }))
      yield this.selectedOf(entries, folders)
  }

  private async *each(): AsyncGenerator<Entry, void, undefined> {
    for await (const entries of this.selected()) yield* entries
  }

  /** `folders`: those that the entry before lies in. */
  private *selectedOf(entries: readonly Entry[], folders: EntryPath[]): Generator<Entry, void, undefined> {
    for (const entry of entries) {
      throwIfInterrupted(this.options.signal)
      this.throwIfFailed()
      if (entry.path === CLAIM_NAME) continue
      if (this.options.select && !this.options.select(entry)) continue
      while (folders.length > 0 && !isBelow(entry.path, folders.at(-1) as EntryPath)) folders.pop()
      const parent = entry.path.lastIndexOf('/') === -1 ? '' : entry.path.slice(0, entry.path.lastIndexOf('/'))
      if (entry.path !== '' && parent !== '' && folders.at(-1) !== parent)
        throw new RegainError(
          'repository-damaged',
          `The listing has ${displayPath(entry.path)} without its folder: it is damaged or hostile.`,
        )
      if (entry.type === 'directory') folders.push(entry.path)
      yield entry
    }
  }

  private async writeFile(entry: Entry): Promise<void> {
    this.files++
    const file: FileUnderWay = { entry, jobs: 0, planned: false, made: false, lost: null }
    try {
      if (!this.options.hollow?.(entry)) await this.planFile(file)
    } catch (error) {
      if (!isLoss(error)) throw error
      file.lost = error.message
    }
    file.planned = true
    if (file.jobs === 0 && !this.window.files.has(file)) this.finishFile(file)
    if (this.window.bytes >= WINDOW_BYTES || this.window.files.size >= WINDOW_FILES) await this.flush()
  }

  private async planFile(file: FileUnderWay): Promise<void> {
    const { entry } = file
    const layout = new FileLayout(entry)
    if (entry.chunkLists !== undefined)
      for await (const id of chunkIds((list) => this.listing.readChunk(list), entry))
        await this.planChunk(file, id, layout)
    // Most files are one chunk: to wait for each would take longer than to plan it.
    else
      for (const id of ownChunkIds(entry)) {
        const waiting = this.planChunk(file, id, layout)
        if (waiting) await waiting
      }
    layout.end()
  }

  /** Null: it is planned. */
  private planChunk(file: FileUnderWay, id: Buffer, layout: FileLayout): Promise<void> | null {
    const place = this.copies.locate(id)
    return place ? this.planPlace(file, id, layout, place) : this.planElsewhere(file, id, layout)
  }

  private planPlace(file: FileUnderWay, id: Buffer, layout: FileLayout, place: ChunkPlace): Promise<void> | null {
    this.window.add(file, id, place, layout.place(place.length))
    return this.window.bytes >= WINDOW_BYTES ? this.flush() : null
  }

  private async planElsewhere(file: FileUnderWay, id: Buffer, layout: FileLayout): Promise<void> {
    await this.planPlace(file, id, layout, await this.find(id))
  }

  private async find(id: Buffer): Promise<ChunkPlace> {
    const place = this.copies.locate(id) ?? (await this.copies.locateElsewhere(id, null))
    if (place) return place
    throw new RegainError('repository-damaged', 'A chunk of it is in no pack: its pack or its index was lost.')
  }

  private async flush(): Promise<void> {
    const { pool } = this.state
    const { window, target } = this
    if (this.options.over !== undefined) this.reusedBytes += await dropWhatIsThere(pool, target, window)
    const jobs = window.plan(target, this.ownership)
    this.window = new RestoreWindow()
    // Those of which nothing is left to be written.
    for (const file of window.files) if (file.jobs === 0 && file.planned) this.finishFile(file)
    for (const planned of jobs) {
      for (const file of planned.files) if (!planned.single.has(file)) this.make(file)
      const bytes = sealedBytes(planned.job.source)
      while (this.isBusy(bytes)) await Promise.race(this.running)
      this.throwIfFailed()
      throwIfInterrupted(this.options.signal)
      this.runningBytes += bytes
      const run = this.run(planned)
        .catch((error: unknown) => {
          this.failure ??= { error }
        })
        .finally(() => {
          this.running.delete(run)
          this.runningBytes -= bytes
        })
      this.running.add(run)
    }
  }

  private isBusy(nextBytes: number): boolean {
    const { pool, storage } = this.state
    if (this.running.size < pool.threadCount * JOBS_PER_THREAD) return false
    if (storage.localDirectory !== undefined || this.running.size >= JOBS_FROM_AFAR) return true
    return this.runningBytes + nextBytes > BYTES_FROM_AFAR
  }

  private make(file: FileUnderWay): void {
    if (file.made) return
    file.made = true
    this.tree.closeFile(this.tree.createFile(file.entry.path))
  }

  private async run(planned: PlannedJob, attempt = 1): Promise<void> {
    const reply = await this.execute(planned)
    this.bytes += reply.bytes
    for (const { file, detail } of reply.warnings)
      this.warnAttributes((planned.files[file] as FileUnderWay).entry, [detail])
    const again = await this.findElsewhere(planned, reply, attempt)
    const unfinished = new Set<FileUnderWay>()
    for (const { file, made } of reply.unfinished) {
      const underWay = planned.files[file] as FileUnderWay
      underWay.made = made
      unfinished.add(underWay)
    }
    for (const file of planned.files) file.jobs--
    const jobs = again.plan(this.target, this.ownership)
    for (const file of planned.files) {
      const isDone = planned.single.has(file) && !unfinished.has(file) && file.lost === null
      // More of it may wait in the window: finishing it now would set attributes, or remove it, too early.
      if (!isDone && file.jobs === 0 && file.planned && !this.window.files.has(file)) this.finishFile(file)
    }
    this.options.progress({ phase: 'writing', bytesDone: this.bytes, filesDone: this.files })
    for (const job of jobs) {
      for (const file of job.files) if (!job.single.has(file)) this.make(file)
      await this.run(job, attempt + 1)
    }
  }

  private async execute(planned: PlannedJob): Promise<RestoreReply> {
    try {
      const source = await fetchGroups(this.state, planned.job.source, this.options.signal)
      return await this.state.pool.run<RestoreReply>({ ...planned.job, source }, ownedBuffers(source))
    } catch (error) {
      // As a thread says it that finds the file of a pack gone.
      if (!isRegainError(error, 'storage-not-found')) throw error
      const lost = planned.chunks.map((_, chunk) => ({ chunk, detail: error.message }))
      const unfinished = planned.files.flatMap((file, number) =>
        planned.single.has(file) ? [{ file: number, made: false }] : [],
      )
      return { bytes: 0, lost, unfinished, warnings: [] }
    }
  }

  /** Other copies of what was lost; files for which there is none are lost. */
  private async findElsewhere(planned: PlannedJob, reply: RestoreReply, attempt: number): Promise<RestoreWindow> {
    const window = new RestoreWindow()
    for (const { chunk, detail } of reply.lost) {
      const { id, pieces } = planned.chunks[chunk] as WantedChunk
      const place = attempt < MAX_COPIES ? await this.copies.locateElsewhere(id, planned.job.source.pack) : null
      for (const { file, ...piece } of pieces)
        if (place) window.add(file, id, place, [piece])
        else file.lost ??= detail
    }
    return window
  }

  /** For files whose content the threads do not finish: empty, all holes, or written by several jobs. */
  private finishFile(file: FileUnderWay): void {
    if (file.lost !== null) {
      this.lose(file)
      return
    }
    const fd = this.openToFinish(file)
    try {
      const isOver = this.options.over !== undefined
      if (isOver || file.entry.extents || (file.entry.size ?? 0) > 0) ftruncateSync(fd, file.entry.size ?? 0)
      this.warnAttributes(file.entry, this.tree.setAttributes(file.entry, { ownership: this.ownership }, fd))
    } finally {
      this.tree.closeFile(fd)
    }
  }

  private openToFinish(file: FileUnderWay): number {
    const { path } = file.entry
    if (file.made) return this.tree.openFile(path)
    if (this.options.over !== undefined) return this.tree.openOrCreateFile(path)
    return this.tree.createFile(path)
  }

  /** Better no file than a wrong one. */
  private lose(file: FileUnderWay): void {
    this.hasLost = true
    this.tree.removeFile(file.entry.path)
    this.files--
    this.miss({ path: displayPath(file.entry.path), reason: 'damaged', detail: file.lost ?? '' })
  }

  /** Where the first name was lost, so is the content of all others. */
  private makeHardLink(entry: Entry): void {
    const failure = this.tree.createHardLink(entry)
    if (failure === null) return
    const reason = failure.isAbsent ? 'damaged' : 'unsupported'
    this.miss({ path: displayPath(entry.path), reason, detail: failure.detail })
  }

  private makeSpecial(entry: Entry): void {
    const detail = this.tree.createOther(entry)
    if (detail !== null) this.miss({ path: displayPath(entry.path), reason: 'unsupported', detail })
    else this.warnAttributes(entry, this.tree.setAttributes(entry, { ownership: this.ownership }))
  }

  private warnAttributes(entry: Pick<Entry, 'path'>, details: readonly string[]): void {
    for (const detail of details) this.miss({ path: displayPath(entry.path), reason: 'unsupported', detail })
  }

  private miss(missed: Missed): void {
    this.missedCount++
    if (this.missedCount <= MAX_MISSED_KEPT) this.missed.push(missed)
    if (this.missedCount === MAX_MISSED_KEPT + 1)
      this.options.warn(`More than ${MAX_MISSED_KEPT} things could not be restored; only these are listed.`)
  }

  private throwIfFailed(): void {
    if (this.failure) throw this.failure.error
  }
}

function isBelow(path: EntryPath, folder: EntryPath): boolean {
  return folder === ''
    ? path !== ''
    : path.length > folder.length && path.startsWith(folder) && path.charCodeAt(folder.length) === 0x2f
}
