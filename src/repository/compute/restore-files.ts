import { ftruncateSync, writeSync } from 'node:fs'
import { RegainError } from '../../errors.ts'
import { errorCode } from '../../filesystem/libc.ts'
import { type TargetRoot, TargetTree } from '../../filesystem/target.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import type { RestoreFile, RestoreJob, RestoreReply } from './messages.ts'
import { ChunksInOrder, type GroupOpener } from './open-groups.ts'
import type { Rooms } from './room.ts'

/** Files that pieces are written to alternately stay open up to this number. */
const OPEN_FILES = 64
const PIECE_NUMBERS = 5
/**
 * Linux caches what one call writes in blocks of memory as large as the call, and takes long to come by large ones: 2 GB into ext4
 * took 5.2 s by 128 KiB (kernel 6.18, a virtual machine), 3.6 s by 32 KiB, 4.4 s by 8 KiB.
 */
const WRITE_BYTES = 32 * 1024

const trees = new Map<string, TargetTree>()

/** One tree a thread and target, kept for its cached folder handles until the job `end-session`. */
export function targetTree(target: TargetRoot): TargetTree {
  const key = JSON.stringify(target)
  const known = trees.get(key)
  if (known) return known
  const tree = TargetTree.open(target)
  trees.set(key, tree)
  return tree
}

export function closeTargets(): void {
  for (const tree of trees.values()) tree.close()
  trees.clear()
}

/**
 * Writes verified chunks into the target's files. A damaged chunk writes nothing: it is reported, and the main thread
 * finds another copy, or removes what there is of the files that it belongs to.
 */
export function restoreFiles(keys: DomainKeys, opener: GroupOpener, rooms: Rooms, job: RestoreJob): RestoreReply {
  const run = new RestoreRun(targetTree(job.target), job)
  try {
    const chunks = new ChunksInOrder(keys, opener, job, rooms)
    let piece = 0
    for (let chunk = 0; chunk < chunks.count; chunk++) {
      const bytes = chunks.get(chunk)
      const isLost = typeof bytes === 'string'
      if (isLost) run.reply.lost.push({ chunk, detail: bytes })
      for (; job.pieces[piece * PIECE_NUMBERS] === chunk; piece++) run.write(piece, isLost ? undefined : bytes)
    }
    return run.reply
  } finally {
    run.close()
  }
}

class RestoreRun {
  readonly reply: RestoreReply = { bytes: 0, lost: [], unfinished: [], warnings: [] }
  private readonly tree: TargetTree
  private readonly job: RestoreJob
  private readonly left: Uint32Array
  private readonly unfinished = new Set<number>()
  private readonly made = new Set<number>()
  private readonly open = new Map<number, number>()

  constructor(tree: TargetTree, job: RestoreJob) {
    this.tree = tree
    this.job = job
    this.left = new Uint32Array(job.files.length)
    for (let at = 3; at < job.pieces.length; at += PIECE_NUMBERS) this.left[job.pieces[at] as number]!++
  }

  write(piece: number, chunk: Uint8Array | undefined): void {
    const at = piece * PIECE_NUMBERS
    const [, from, length, file, position] = this.job.pieces.subarray(at, at + PIECE_NUMBERS) as unknown as [
      number,
      number,
      number,
      number,
      number,
    ]
    if (!chunk) this.unfinished.add(file)
    else {
      writeFully(this.handle(file), chunk, from, length, position)
      this.reply.bytes += length
    }
    this.left[file]!--
    if (this.left[file] === 0) this.finish(file)
  }

  close(): void {
    for (const file of [...this.open.keys()]) this.closeFile(file)
  }

  private finish(file: number): void {
    const { entry } = this.job.files[file] as RestoreFile
    if (entry && this.unfinished.has(file)) this.reply.unfinished.push({ file, made: this.made.has(file) })
    else if (entry) {
      const fd = this.handle(file)
      if (entry.extents) ftruncateSync(fd, entry.size ?? 0)
      for (const detail of this.tree.setAttributes(entry, { ownership: this.job.ownership }, fd))
        this.reply.warnings.push({ file, detail })
    }
    this.closeFile(file)
  }

  private handle(file: number): number {
    const known = this.open.get(file)
    if (known !== undefined) return known
    if (this.open.size >= OPEN_FILES) this.closeFile(this.open.keys().next().value as number)
    const { path, entry } = this.job.files[file] as RestoreFile
    const fd = entry && !this.made.has(file) ? this.tree.createFile(path) : this.tree.openFile(path)
    this.made.add(file)
    this.open.set(file, fd)
    return fd
  }

  private closeFile(file: number): void {
    const fd = this.open.get(file)
    if (fd === undefined) return
    this.open.delete(file)
    this.tree.closeFile(fd)
  }
}

function writeFully(fd: number, bytes: Uint8Array, from: number, length: number, position: number): void {
  for (let done = 0; done < length; ) {
    try {
      done += writeSync(fd, bytes, from + done, Math.min(length - done, WRITE_BYTES), position + done)
    } catch (error) {
      throw targetError(error)
    }
  }
}

/** What a failing target means for the person who restores. */
export function targetError(error: unknown): unknown {
  if (error instanceof RegainError) return error
  const code = errorCode(error)
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new RegainError(
      'target-full',
      'The restore target is full. What was restored so far is incomplete; the repository is not affected.',
      { cause: error },
    )
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new RegainError(
      'not-permitted',
      `The restore target can't be written: ${code}. The repository is not affected.`,
      {
        cause: error,
      },
    )
  return error
}
