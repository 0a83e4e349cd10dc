import { type BigIntStats, fstatSync, readSync } from 'node:fs'
import { attributesOfFile } from '../../filesystem/attributes.ts'
import { dataExtents, mayHaveHoles } from '../../filesystem/extents.ts'
import { close } from '../../filesystem/libc.ts'
import { readOwnerNames } from '../../filesystem/owners.ts'
import { openForReading } from '../../filesystem/reading.ts'
import type {
  FileState,
  FilesJob,
  FileToRead,
  FreshAttributes,
  RangeJob,
  ReadOutcome,
  StoredFiles,
  StoredRange,
} from './messages.ts'
import { PACED_READ_BYTES } from './pace.ts'
import type { SessionStore } from './store.ts'

/** Files below this are read whole and are one chunk each. */
export const SMALL_FILE_BYTES = 1024 * 1024
/** At least two of the largest chunks, so that little is moved from its end to its beginning. */
export const WINDOW_BYTES = 8 * 1024 * 1024
/** A file that changes while it is read is read again this often before it is kept as it came. */
export const READ_ATTEMPTS = 2

let window: Buffer | null = null

/** One buffer a thread, made on first use and kept. */
function readWindow(): Buffer {
  window ??= Buffer.allocUnsafeSlow(WINDOW_BYTES)
  return window
}

export async function storeFiles(store: SessionStore, job: FilesJob): Promise<StoredFiles> {
  const outcomes: StoredFiles['outcomes'] = []
  const ids: Buffer[] = []
  let bytesRead = 0
  for (const [index, file] of (JSON.parse(job.files) as FileToRead[]).entries()) {
    const stored = await withFile(
      file,
      async (fd) => (await storeSmall(store, fd, file)) ?? storeWhole(store, fd, file),
    )
    if (stored.outcome !== AS_SEEN) outcomes.push([index, stored.outcome])
    ids.push(stored.ids)
    bytesRead += stored.bytesRead
  }
  return { outcomes, ids: Buffer.concat(ids), bytesRead }
}

export async function storeRange(store: SessionStore, job: RangeJob): Promise<StoredRange> {
  return withFile(job.file, async (fd) => {
    if (job.whole) return storeWhole(store, fd, job.file)
    const content = await storeContent(store, fd, job.start, job.length)
    const range = { outcome: content.outcome, ids: content.ids, bytesRead: content.bytesRead }
    const after = look(fd)
    const same = isSame(job.file, after) && content.dataBytes === content.expectedBytes
    return same ? range : { ...range, changedTo: lookClosely(fd) }
  })
}

const AS_SEEN: ReadOutcome = { chunks: 1 }

/**
 * Most files: after one read the file is what the scan saw, so the bytes are those of one moment. Null: it is not, or may
 * have holes; nothing of it was stored.
 */
async function storeSmall(store: SessionStore, fd: number, file: FileToRead): Promise<ReadRange | null> {
  const bytes = readWindow().subarray(0, file.size)
  if (fill(store, fd, bytes, 0) < bytes.length) return null
  const stat = fstatSync(fd, { bigint: true })
  if (!isSame(file, stateOf(stat)) || mayHaveHoles(stat)) return null
  const waiting = store.room()
  if (waiting) await waiting
  return { outcome: AS_SEEN, ids: store.put(bytes, false), bytesRead: bytes.length }
}

/** Reads a file until two looks at its state, before and after, agree: then bytes and attributes are those of one moment. */
async function storeWhole(store: SessionStore, fd: number, file: FileToRead): Promise<ReadRange> {
  let fresh = isSame(file, look(fd)) ? null : lookClosely(fd)
  let bytesRead = 0
  for (let attempt = 1; ; attempt++) {
    const seen = fresh?.attributes ?? file
    const { outcome, ids, ...content } = await storeContent(store, fd, 0, seen.size)
    bytesRead += content.bytesRead
    if (fresh !== null) outcome.fresh = fresh
    const isWhole = content.dataBytes === content.expectedBytes
    if (isWhole && isSame(seen, look(fd))) return { outcome, ids, bytesRead }
    if (attempt === READ_ATTEMPTS) {
      outcome.missed = {
        reason: 'changed',
        detail: `It changed each of ${READ_ATTEMPTS} times it was read; what is kept may mix moments.`,
      }
      if (!isWhole) {
        outcome.size = content.dataBytes
        delete outcome.extents
      }
      return { outcome, ids, bytesRead }
    }
    fresh = lookClosely(fd)
  }
}

type ReadRange = StoredRange & { ids: Buffer }

interface Content {
  outcome: ReadOutcome
  ids: Buffer
  bytesRead: number
  /** Of what was read; less than expected when the file shrank. */
  dataBytes: number
  expectedBytes: number
}

async function storeContent(store: SessionStore, fd: number, start: number, length: number): Promise<Content> {
  const extents = sparseExtents(fd, start, length)
  const ranges = extents ?? (length > 0 ? [[start, length] as [number, number]] : [])
  const ids: Buffer[] = []
  let dataBytes = 0
  let expectedBytes = 0
  for (const [offset, bytes] of ranges) {
    expectedBytes += bytes
    dataBytes += await storeData(store, fd, offset, bytes, ids)
  }
  const outcome: ReadOutcome = { chunks: ids.length }
  if (extents) outcome.extents = extents
  return { outcome, ids: Buffer.concat(ids), bytesRead: dataBytes, dataBytes, expectedBytes }
}

/** Reads [offset, offset + length) and appends its chunks' ids. Returns the bytes there were. */
async function storeData(
  store: SessionStore,
  fd: number,
  offset: number,
  length: number,
  ids: Buffer[],
): Promise<number> {
  const buffer = readWindow()
  let filled = 0
  let read = 0
  for (;;) {
    const wanted = Math.min(buffer.length - filled, length - read)
    const got = fill(store, fd, buffer.subarray(filled, filled + wanted), offset + read)
    if (got < wanted) length = read + got
    filled += got
    read += got
    const more = read < length
    let start = 0
    while (start < filled) {
      const end =
        filled - start < SMALL_FILE_BYTES && !more && start === 0
          ? filled
          : store.chunker.cut(buffer, start, filled, more)
      if (end === 0) break
      const waiting = store.room()
      if (waiting) await waiting
      ids.push(store.put(buffer.subarray(start, end), false))
      start = end
    }
    if (!more) return read
    buffer.copyWithin(0, start, filled)
    filled -= start
  }
}

/** Reads until `into` is full or the file ends; the bytes there were. */
function fill(store: SessionStore, fd: number, into: Buffer, offset: number): number {
  let filled = 0
  while (filled < into.length) {
    const isPaced = store.pace?.limitsReading === true
    const wanted = Math.min(into.length - filled, isPaced ? PACED_READ_BYTES : WINDOW_BYTES)
    // With a limit before it is read, so that it is not passed; else what was there, which may be much less.
    if (isPaced) store.pace?.read(wanted)
    const got = readSync(fd, into, filled, wanted, offset + filled)
    if (!isPaced) store.pace?.read(got)
    if (got === 0) break
    filled += got
  }
  return filled
}

/** The data ranges of a sparse part of a file; null if it has no holes. */
function sparseExtents(fd: number, start: number, length: number): [number, number][] | null {
  const stat = fstatSync(fd)
  if (!mayHaveHoles(stat)) return null
  const end = start + length
  const inside: [number, number][] = []
  for (const [offset, bytes] of dataExtents(fd, stat.size)) {
    const from = Math.max(offset, start)
    const to = Math.min(offset + bytes, end)
    if (to > from) inside.push([from, to - from])
  }
  const whole = inside.length === 1 && inside[0]?.[0] === start && inside[0]?.[1] === length
  return whole ? null : inside
}

async function withFile(file: FileToRead, body: (fd: number) => Promise<ReadRange>): Promise<ReadRange> {
  let fd: number
  let inode: bigint
  try {
    const opened = openForReading(Buffer.from(file.path, 'latin1'))
    fd = opened.fd
    inode = opened.stat.ino
  } catch (error) {
    return missed(error)
  }
  try {
    if (file.sameInode && String(inode) !== file.inode) return notRead('vanished', REPLACED)
    return await body(fd)
  } catch (error) {
    if (isSystemError(error)) return missed(error)
    throw error
  } finally {
    close(fd)
  }
}

const REPLACED =
  'It had several names, and another file has taken its place under this one since the folder was listed.'

function isSame(a: FileState, b: FileState): boolean {
  return a.inode === b.inode && a.size === b.size && a.mtime === b.mtime && a.ctime === b.ctime
}

function look(fd: number): FileState {
  return stateOf(fstatSync(fd, { bigint: true }))
}

function stateOf(stat: BigIntStats): FileState {
  return {
    inode: String(stat.ino),
    size: Number(stat.size),
    mtime: String(stat.mtimeNs),
    ctime: String(stat.ctimeNs),
  }
}

function lookClosely(fd: number): FreshAttributes {
  const problems: string[] = []
  const problem = (detail: string) => void problems.push(detail)
  // The names are read anew: few files need this, and a daemon's threads live for months.
  const attributes = attributesOfFile(fd, { owners: readOwnerNames(), problem })
  return { attributes, problem: problems.length === 0 ? null : problems.join(', ') }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string'
}

function missed(error: unknown): ReadRange {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
  // ELOOP: a symbolic link took the file's place; ESTALE: something else did; ENOTDIR: a folder on its way was replaced.
  const reason = ['ENOENT', 'ELOOP', 'ENXIO', 'ESTALE', 'ENOTDIR'].includes(code) ? 'vanished' : 'unreadable'
  const detail =
    reason === 'vanished'
      ? 'It was there when the folder was listed and gone when it was to be read.'
      : `Reading it failed: ${code}.`
  return notRead(reason, detail)
}

function notRead(reason: 'vanished' | 'unreadable', detail: string): ReadRange {
  return { outcome: { chunks: 0, missed: { reason, detail } }, ids: Buffer.alloc(0), bytesRead: 0 }
}
