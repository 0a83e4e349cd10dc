import { RegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { TargetRoot } from '../../filesystem/target.ts'
import type { Entry } from '../../model.ts'
import type { GroupPlace, PackGroups, RestoreFile, RestoreJob } from '../compute/messages.ts'
import { GROUP_MAX_RAW_BYTES } from '../format/pack.ts'
import { FRAME_BYTES } from '../format/sealed.ts'
import { dataRanges } from '../listing/listing-reader.ts'
import type { ChunkPlace } from '../packs/chunk-index.ts'

/** Sealed bytes that one job reads at the most, gaps included, and the largest gap worth reading over. */
const JOB_SPAN_BYTES = 4 * 1024 * 1024
const GAP_BYTES = 2 * FRAME_BYTES
/** What one job writes at the most: an interruption waits for all that run, and a chunk may be wanted for gigabytes. */
const JOB_WRITES_BYTES = 32 * 1024 * 1024

/** A file on its way: finished when all of it is planned and no job is left. */
export interface FileUnderWay {
  entry: Entry
  jobs: number
  planned: boolean
  /** Made by the main thread, because several jobs write to it. */
  made: boolean
  lost: string | null
}

export interface Piece {
  file: FileUnderWay
  chunkOffset: number
  length: number
  position: number
}

export interface WantedChunk {
  id: Buffer
  place: ChunkPlace
  pieces: Piece[]
}

/** Chunks wanted by some files, gathered until they make worthwhile reads. */
export class RestoreWindow {
  /** To be written. A chunk counts as often as it is wanted, so that a long file of one repeated chunk is no endless job. */
  bytes = 0
  /** By the pack's name, then by group and offset: one number, because a text for each chunk costs more than its plan. */
  private readonly packs = new Map<string, Map<number, WantedChunk>>()
  readonly files = new Set<FileUnderWay>()

  add(file: FileUnderWay, id: Buffer, place: ChunkPlace, pieces: Omit<Piece, 'file'>[]): void {
    const { name } = place.knownPack
    let chunks = this.packs.get(name)
    if (!chunks) {
      chunks = new Map()
      this.packs.set(name, chunks)
    }
    const key = place.group * GROUP_MAX_RAW_BYTES + place.offset
    let chunk = chunks.get(key)
    if (!chunk) {
      chunk = { id, place, pieces: [] }
      chunks.set(key, chunk)
    }
    this.bytes += place.length
    for (const { chunkOffset, length, position } of pieces) chunk.pieces.push({ file, chunkOffset, length, position })
    this.files.add(file)
  }

  /** Each chunk with each place in a file that it is wanted for. */
  *wanted(): Generator<{ id: Buffer; piece: Piece }, void, undefined> {
    for (const { id, pieces } of this.all()) for (const piece of pieces) yield { id, piece }
  }

  /** Takes out what need not be written. */
  drop(isThere: (piece: Piece) => boolean): void {
    for (const chunks of this.packs.values())
      for (const [key, chunk] of chunks) {
        chunk.pieces = chunk.pieces.filter((piece) => !isThere(piece))
        if (chunk.pieces.length === 0) chunks.delete(key)
      }
  }

  private all(): WantedChunk[] {
    return [...this.packs.values()].flatMap((chunks) => [...chunks.values()])
  }

  /** Jobs that each read one stretch of one pack, or some of it. */
  plan(target: TargetRoot, ownership: boolean): PlannedJob[] {
    const stretches = stretchesOf(this.all()).flatMap((stretch) => [...partsOf(stretch)])
    for (const stretch of stretches) for (const file of filesOf(stretch)) file.jobs++
    return stretches.map((stretch) => encodeJob(stretch, target, ownership))
  }
}

export interface PlannedJob {
  job: RestoreJob
  files: FileUnderWay[]
  /** In the order of the job's. */
  chunks: readonly WantedChunk[]
  /** These files are this job's alone: the thread makes and finishes them. */
  single: ReadonlySet<FileUnderWay>
}

/** Chunks in stretches of one pack, each worth one read. */
export function stretchesOf<Chunk extends { place: ChunkPlace }>(chunks: readonly Chunk[]): Chunk[][] {
  const sorted = chunks.toSorted(
    (a, b) => comparePacks(a.place, b.place) || a.place.group - b.place.group || a.place.offset - b.place.offset,
  )
  const stretches: Chunk[][] = []
  let current: Chunk[] = []
  for (const chunk of sorted) {
    if (current.length > 0 && !near(current, chunk)) {
      stretches.push(current)
      current = []
    }
    current.push(chunk)
  }
  if (current.length > 0) stretches.push(current)
  return stretches
}

/** What a job needs of a stretch: its pack with the groups, and for each chunk its group's number, offset and length. */
export function describeStretch(chunks: readonly { id: Buffer; place: ChunkPlace }[]): {
  source: PackGroups
  ids: Uint8Array
  places: Uint32Array
} {
  const groups: GroupPlace[] = []
  const ids = new Uint8Array(chunks.length * 32)
  const places = new Uint32Array(chunks.length * 3)
  chunks.forEach(({ id, place }, index) => {
    if (groups.at(-1) !== place.groupPlace) groups.push(place.groupPlace)
    ids.set(id, index * 32)
    places.set([groups.length - 1, place.offset, place.length], index * 3)
  })
  const { name, sizeBytes } = (chunks[0] as { place: ChunkPlace }).place.knownPack
  return { source: { pack: name, sizeBytes, groups }, ids, places }
}

/** Places may come from indexes that were read at different times, so only names tell packs apart. */
function comparePacks(a: ChunkPlace, b: ChunkPlace): number {
  if (a.knownPack.name === b.knownPack.name) return 0
  return a.knownPack.name < b.knownPack.name ? -1 : 1
}

function near<Chunk extends { place: ChunkPlace }>(current: readonly Chunk[], next: Chunk): boolean {
  const first = (current[0] as Chunk).place
  const last = (current[current.length - 1] as Chunk).place
  if (comparePacks(first, next.place) !== 0) return false
  const end = next.place.groupPlace.offset + next.place.groupPlace.storedBytes
  const gap = next.place.groupPlace.offset - (last.groupPlace.offset + last.groupPlace.storedBytes)
  return gap <= GAP_BYTES && end - first.groupPlace.offset <= JOB_SPAN_BYTES
}

/** A chunk whose places in files are more than one job may write is in several parts. */
function* partsOf(stretch: readonly WantedChunk[]): Generator<WantedChunk[], void, undefined> {
  let part: WantedChunk[] = []
  let bytes = 0
  for (const chunk of stretch) {
    const { pieces } = chunk
    let from = 0
    for (const [at, { length }] of pieces.entries()) {
      if (bytes > 0 && bytes + length > JOB_WRITES_BYTES) {
        if (at > from) part.push({ ...chunk, pieces: pieces.slice(from, at) })
        yield part
        part = []
        bytes = 0
        from = at
      }
      bytes += length
    }
    part.push(from === 0 ? chunk : { ...chunk, pieces: pieces.slice(from) })
  }
  if (part.length > 0) yield part
}

function filesOf(chunks: readonly WantedChunk[]): Set<FileUnderWay> {
  return new Set(chunks.flatMap((chunk) => chunk.pieces.map((piece) => piece.file)))
}

function encodeJob(chunks: readonly WantedChunk[], target: TargetRoot, ownership: boolean): PlannedJob {
  const files = [...filesOf(chunks)]
  const single = new Set(files.filter((file) => file.planned && file.jobs === 1 && !file.made))
  const fileNumbers = new Map(files.map((file, index) => [file, index]))
  const pieces = new Float64Array(chunks.reduce((sum, chunk) => sum + chunk.pieces.length, 0) * 5)
  let piece = 0
  chunks.forEach((chunk, index) => {
    for (const { file, chunkOffset, length, position } of chunk.pieces) {
      pieces.set([index, chunkOffset, length, fileNumbers.get(file) as number, position], piece * 5)
      piece++
    }
  })
  const restoreFiles: RestoreFile[] = files.map((file) => ({
    path: file.entry.path,
    ...(single.has(file) ? { entry: file.entry } : {}),
  }))
  const job: RestoreJob = {
    type: 'restore',
    target,
    ownership,
    ...describeStretch(chunks),
    files: restoreFiles,
    pieces,
  }
  return { job, files, chunks, single }
}

/** Walks a file's chunks along its data ranges and says for each where its bytes go. */
export class FileLayout {
  private readonly entry: Entry
  private readonly ranges: [number, number][]
  private range = 0
  private within = 0

  constructor(entry: Entry) {
    this.entry = entry
    this.ranges = dataRanges(entry)
    checkRanges(entry, this.ranges)
  }

  place(length: number): Omit<Piece, 'file'>[] {
    const pieces: Omit<Piece, 'file'>[] = []
    for (let done = 0; done < length; ) {
      const range = this.ranges[this.range]
      if (!range) throw contradicts(this.entry)
      const taken = Math.min(length - done, range[1] - this.within)
      pieces.push({ chunkOffset: done, length: taken, position: range[0] + this.within })
      done += taken
      this.within += taken
      if (this.within === range[1]) {
        this.range++
        this.within = 0
      }
    }
    return pieces
  }

  end(): void {
    if (this.range !== this.ranges.length) throw contradicts(this.entry)
  }
}

function checkRanges(entry: Entry, ranges: readonly [number, number][]): void {
  let end = 0
  for (const [offset, length] of ranges) {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < end || length <= 0)
      throw contradicts(entry)
    end = offset + length
  }
  if (end > (entry.size ?? 0)) throw contradicts(entry)
}

function contradicts(entry: Entry): RegainError {
  return new RegainError(
    'repository-damaged',
    `The size of ${displayPath(entry.path)} and its chunks contradict each other.`,
  )
}
