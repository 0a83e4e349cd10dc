import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { throwIfInterrupted } from '../errors.ts'
import type { Bytes } from './contract.ts'

/**
 * Bytes in and out of single files, without copying them. Rejects with the system's own errors, and `interrupted`.
 * One system call moves at most this much, so that a signal is heard within one of them.
 */
const CALL_BYTES = 8 * 1024 * 1024

/** What one writev takes on Linux (IOV_MAX); with more, Node makes several calls of it that no signal can part. */
const CALL_PIECES = 1024

/**
 * Makes the file, which must not exist, writes all of `bytes` and makes its content durable (its name is not). A file
 * left by a failure is the caller's to remove.
 */
export async function writeNewFile(path: string, bytes: Bytes, signal: AbortSignal | undefined): Promise<void> {
  const handle = await open(path, 'wx', 0o600)
  try {
    await writePieces(handle, bytes instanceof Uint8Array ? [bytes] : bytes, signal)
    throwIfInterrupted(signal)
    // Syncs the length as well: fdatasync leaves out only what is not needed to read the data back.
    await handle.datasync()
  } finally {
    await handle.close()
  }
}

async function writePieces(
  handle: FileHandle,
  pieces: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let piece = 0
  let offset = 0
  let position = 0
  for (;;) {
    while (piece < pieces.length && offset >= pieces[piece]!.length) {
      offset -= pieces[piece]!.length
      piece++
    }
    if (piece === pieces.length) return

    throwIfInterrupted(signal)
    const { bytesWritten } = await handle.writev(nextPieces(pieces, piece, offset), position)
    // Not seen on any file system; without this line it would be a loop without an end.
    if (bytesWritten === 0) throw Object.assign(new Error('EIO: nothing was written'), { code: 'EIO' })
    // A disk that fills up, or a signal, may end a call early: go on from where it stopped.
    offset += bytesWritten
    position += bytesWritten
  }
}

/** Views of what comes next, from `offset` in `pieces[first]`, up to the limits of one call. */
function nextPieces(pieces: readonly Uint8Array[], first: number, offset: number): Uint8Array[] {
  const views: Uint8Array[] = []
  let room = CALL_BYTES
  for (let i = first; i < pieces.length && room > 0 && views.length < CALL_PIECES; i++) {
    const start = i === first ? offset : 0
    const view = pieces[i]!.subarray(start, start + room)
    views.push(view)
    room -= view.length
  }
  return views
}

/**
 * The bytes of a regular file, or of a range of it that is cut short at its end; null if it is no regular file. The
 * result has memory of its own, so that it can be transferred to another thread.
 */
export async function readRegularFile(
  path: string,
  range: { offset: number; length: number } | undefined,
  signal: AbortSignal | undefined,
): Promise<Buffer | null> {
  // Without O_NONBLOCK a foreign FIFO would hold the call for ever.
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) return null
    const start = Math.min(range?.offset ?? 0, stat.size)
    const end = range ? Math.min(start + range.length, stat.size) : stat.size
    return await readBytes(handle, start, end - start, signal)
  } finally {
    await handle.close()
  }
}

async function readBytes(
  handle: FileHandle,
  start: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length)
  let filled = 0
  while (filled < length) {
    throwIfInterrupted(signal)
    const { bytesRead } = await handle.read(buffer, filled, Math.min(CALL_BYTES, length - filled), start + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}
