import { ftruncateSync } from 'node:fs'
import { isRegainError, RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { TargetRoot, TargetTree } from '../../filesystem/target.ts'
import type { Entry, Missed } from '../../model.ts'
import type { OpenPoint } from '../api.ts'
import type { RestoreReply } from '../compute/messages.ts'
import { chunkIds, ownChunkIds } from '../listing/listing-reader.ts'
import type { ChunkPlace } from '../packs/chunk-index.ts'
import { fetchGroups, ownedBuffers, sealedBytes } from '../packs/chunk-reader.ts'
import type { Copies } from '../packs/copies.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { dropWhatIsThere } from './compare-target.ts'
import { FileLayout, type FileUnderWay, type PlannedJob, RestoreWindow, type WantedChunk } from './restore-plan.ts'

/**
 * Content planned at once: large enough that a group of chunks is opened once although an increment put chunks from all over a
 * database into it, small enough to stay flat in memory, of which a plan takes some 500 bytes a chunk.
 */
const WINDOW_BYTES = 1024 * 1024 * 1024
const WINDOW_FILES = 8192
const JOBS_PER_THREAD = 4
/**
 * What is read and not yet written of a store that threads can't read themselves. It is far away, so this follows from the
 * line and not from the threads: 64 MiB in 50 ms are 10 Gbit/s.
 */
const JOBS_FROM_AFAR = 48
const BYTES_FROM_AFAR = 64 * 1024 * 1024
/** Copies of a chunk that are tried. */
const MAX_COPIES = 3

/** What became of single files. */
interface Told {
  missed(missed: Missed): void
  attributes(entry: Pick<Entry, 'path'>, details: readonly string[]): void
}

/**
 * Content of files into a tree that has their folders: planned window by window from the listing, written by the threads in
 * parallel, and each file finished, with its attributes, when all of it is there. One that is lost is removed again.
 */
export class ContentWriter {
  /** Written. */
  bytes = 0
  /** Of chunks that the target's files held already. */
  reusedBytes = 0
  files = 0
  hasLost = false
  private readonly state: RepositoryState
  private readonly copies: Copies
  /** A page of a file's list of chunks. */
  private readonly readChunk: (id: Uint8Array) => Promise<Buffer>
  private readonly tree: TargetTree
  private readonly target: TargetRoot
  private readonly options: Parameters<OpenPoint['materialize']>[1]
  private readonly ownership: boolean
  private readonly isOver: boolean
  private readonly told: Told
  private readonly running = new Set<Promise<void>>()
  /** Sealed bytes of what is running. */
  private runningBytes = 0
  private failure: { error: unknown } | null = null
  private window = new RestoreWindow()

  constructor(
    state: RepositoryState,
    copies: Copies,
    readChunk: (id: Uint8Array) => Promise<Buffer>,
    place: { tree: TargetTree; target: TargetRoot; ownership: boolean },
    options: Parameters<OpenPoint['materialize']>[1],
    told: Told,
  ) {
    this.state = state
    this.copies = copies
    this.readChunk = readChunk
    this.tree = place.tree
    this.target = place.target
    this.ownership = place.ownership
    this.options = options
    this.isOver = options.over !== undefined
    this.told = told
  }

  /** Rejects with `repository-damaged` unless every chunk of it is in a pack that is there, with its size. Reads no content. */
  async require(entry: Entry): Promise<void> {
    for await (const id of chunkIds(this.readChunk, entry)) await this.find(id)
  }

  /** All that was given to `writeFile` is written and finished. */
  async finish(): Promise<void> {
    await this.flush()
    await this.settle()
    this.throwIfFailed()
  }

  /** Nothing runs any more, whatever became of it. */
  async settle(): Promise<void> {
    await Promise.all(this.running)
  }

  throwIfFailed(): void {
    if (this.failure) throw this.failure.error
  }

  /** In the background, as far as there is room. */
  async writeFile(entry: Entry): Promise<void> {
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
      for await (const id of chunkIds(this.readChunk, entry)) await this.planChunk(file, id, layout)
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

  /** What is planned is under way, or done. */
  private async flush(): Promise<void> {
    const { pool } = this.state
    const { window, target } = this
    if (this.isOver) this.reusedBytes += await dropWhatIsThere(pool, target, window, this.options.signal)
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
      this.told.attributes((planned.files[file] as FileUnderWay).entry, [detail])
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
      if (this.isOver || file.entry.extents || (file.entry.size ?? 0) > 0) ftruncateSync(fd, file.entry.size ?? 0)
      this.told.attributes(file.entry, this.tree.setAttributes(file.entry, { ownership: this.ownership }, fd))
    } finally {
      this.tree.closeFile(fd)
    }
  }

  private openToFinish(file: FileUnderWay): number {
    const { path } = file.entry
    if (file.made) return this.tree.openFile(path)
    if (this.isOver) return this.tree.openOrCreateFile(path)
    return this.tree.createFile(path)
  }

  /** Better no file than a wrong one. */
  private lose(file: FileUnderWay): void {
    this.hasLost = true
    this.tree.removeFile(file.entry.path)
    this.files--
    this.told.missed({ path: displayPath(file.entry.path), reason: 'damaged', detail: file.lost ?? '' })
  }
}
