import { throwIfInterrupted } from '../../errors.ts'
import type { TargetRoot } from '../../filesystem/target.ts'
import { mapBounded } from '../bounded.ts'
import type { CompareJob, CompareReply } from '../compute/messages.ts'
import type { Pool } from '../compute/pool.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import type { FileUnderWay, Piece, RestoreWindow } from './restore-plan.ts'

/** What one job reads, unless a chunk is larger. */
const JOB_BYTES = 8 * 1024 * 1024
const JOB_FILES = 512
/** So that no thread waits for its next one, and an interruption only for these. */
const JOBS_PER_THREAD = 2

/**
 * For a restore over what is there: takes out of the window all that the target's files hold already, proven by the ids
 * of their chunks, and marks the files that are there as made. Gives the bytes that need not be written. Sparse files, and what
 * else must be made anew, have been removed from the target before.
 */
export async function dropWhatIsThere(
  pool: Pool,
  target: TargetRoot,
  window: RestoreWindow,
  signal: AbortSignal,
): Promise<number> {
  const there = new Set<Piece>()
  let bytes = 0
  await mapBounded(jobsOf(window, target), pool.threadCount * JOBS_PER_THREAD, async ({ job, files, pieces }) => {
    throwIfInterrupted(signal)
    const reply = await pool.run<CompareReply>(job)
    reply.present.forEach((present, index) => {
      if (present === 1) (files[index] as FileUnderWay).made = true
    })
    reply.same.forEach((same, index) => {
      if (same === 0) return
      const piece = pieces[index] as Piece
      there.add(piece)
      bytes += piece.length
    })
  })
  window.drop((piece) => there.has(piece))
  return bytes
}

interface Comparison {
  job: CompareJob
  files: FileUnderWay[]
  pieces: Piece[]
}

/** A job for some small files, or for part of a large one, each read from its beginning to its end. */
function jobsOf(window: RestoreWindow, target: TargetRoot): Comparison[] {
  const byFile = new Map<FileUnderWay, { id: Buffer; piece: Piece }[]>()
  for (const wanted of window.wanted()) {
    const { file } = wanted.piece
    // What is sparse is made anew: its chunks go over holes.
    if (file.entry.extents) continue
    const known = byFile.get(file)
    if (known) known.push(wanted)
    else byFile.set(file, [wanted])
  }
  const jobs: Comparison[] = []
  let batch = new Batch()
  const finish = (): void => {
    if (batch.files.length > 0) jobs.push(batch.end(target))
    batch = new Batch()
  }
  for (const [file, wanted] of byFile) {
    wanted.sort((a, b) => a.piece.position - b.piece.position)
    if (batch.files.length >= JOB_FILES) finish()
    for (const { id, piece } of wanted) {
      if (batch.bytes > 0 && batch.bytes + piece.length > JOB_BYTES) finish()
      batch.add(file, id, piece)
    }
  }
  finish()
  return jobs
}

class Batch {
  bytes = 0
  readonly files: FileUnderWay[] = []
  private readonly pieces: Piece[] = []
  private readonly ids: Buffer[] = []
  private readonly numbers: number[] = []

  add(file: FileUnderWay, id: Buffer, piece: Piece): void {
    if (this.files.at(-1) !== file) this.files.push(file)
    this.numbers.push(this.files.length - 1, piece.position, piece.length)
    this.ids.push(id)
    this.pieces.push(piece)
    this.bytes += piece.length
  }

  end(target: TargetRoot): Comparison {
    const ids = new Uint8Array(this.ids.length * ID_BYTES)
    for (const [index, id] of this.ids.entries()) ids.set(id, index * ID_BYTES)
    const paths = this.files.map(({ entry }) => entry.path)
    const job: CompareJob = { type: 'compare', target, paths, pieces: Float64Array.from(this.numbers), ids }
    return { job, files: this.files, pieces: this.pieces }
  }
}
