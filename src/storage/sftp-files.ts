import type { FileEntryWithStats } from 'ssh2'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Bytes } from './contract.ts'
import { blocksOf } from './pieces.ts'
import type { SftpSession } from './sftp-session.ts'

/** What every server takes in one request (draft-ietf-secsh-filexfer-02, section 3). */
const BLOCK_BYTES = 32 * 1024

/** Requests of one file that are under way at a time: the way is long, and an answer comes for each. */
const IN_FLIGHT = 32

/**
 * Writes a new file, whole and synced. Rejects with the server's own error, or `interrupted`; the caller removes what is
 * left. `bytes` are not looked at after the signal has fired.
 */
export async function writeNewFile(
  session: SftpSession,
  path: string,
  bytes: Bytes,
  signal: AbortSignal | undefined,
): Promise<void> {
  await withHandle(session, await session.openNew(path), async (handle) => {
    let position = 0
    await inLanes(blocksOf(bytes, BLOCK_BYTES), signal, async (block) => {
      const at = position
      position += block.length
      await session.write(handle, block, at)
    })
    throwIfInterrupted(signal)
    await session.sync(handle)
  })
}

/** The bytes of a file, or those of them in the range; null if the path leads to something else than a file. */
export async function readFile(
  session: SftpSession,
  path: string,
  range: { offset: number; length: number } | undefined,
  signal: AbortSignal | undefined,
): Promise<Buffer | null> {
  return withHandle(session, await session.openToRead(path), async (handle) => {
    throwIfInterrupted(signal)
    // Of the file that was opened: its name may stand for another one by now.
    const found = await session.statHandle(handle)
    if (!found.isFile()) return null
    const start = Math.min(range?.offset ?? 0, found.size)
    const end = range === undefined ? found.size : Math.min(found.size, range.offset + range.length)
    const target = Buffer.allocUnsafeSlow(end - start)
    await inLanes(offsets(target.length), signal, async (offset) => {
      const length = Math.min(BLOCK_BYTES, target.length - offset)
      await readBlock(session, handle, target, offset, length, start + offset)
    })
    return target
  })
}

/** Makes the names in a folder durable that were made or removed before this call. */
export async function syncFolder(session: SftpSession, path: string): Promise<void> {
  await withHandle(session, await session.openToRead(path), (handle) => session.sync(handle))
}

/**
 * Entries of a folder by name. POSIX lists a name without fail only if it stood untouched for the whole reading, and one
 * that is replaced meanwhile may be missed, so the folder is read twice, as local storage does.
 */
export async function readFolderTwice(
  session: SftpSession,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, FileEntryWithStats>> {
  const entries = new Map<string, FileEntryWithStats>()
  for (let pass = 0; pass < 2; pass++) {
    await withHandle(session, await session.openFolder(path), async (handle) => {
      for (;;) {
        throwIfInterrupted(signal)
        const batch = await session.readFolder(handle)
        if (batch === null) return
        for (const entry of batch) entries.set(entry.filename, entry)
      }
    })
  }
  return entries
}

async function readBlock(
  session: SftpSession,
  handle: Buffer,
  target: Buffer,
  offset: number,
  length: number,
  position: number,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const got = await session.read(handle, target, offset + done, length - done, position + done)
    if (got === 0) throw new RegainError('storage-unavailable', 'A file became shorter while it was read.')
    done += got
  }
}

/** Does `work` with the handle, and closes it whatever happens. An error of the work counts for more than one of closing. */
async function withHandle<T>(session: SftpSession, handle: Buffer, work: (handle: Buffer) => Promise<T>): Promise<T> {
  let result: T
  try {
    result = await work(handle)
  } catch (error) {
    await session.close(handle).catch(() => undefined)
    throw error
  }
  await session.close(handle)
  return result
}

/** Does `work` for each item, several at a time. Settles when all that was begun has ended; then with the first error. */
async function inLanes<T>(
  items: Iterable<T>,
  signal: AbortSignal | undefined,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]()
  let failed = false
  const lane = async () => {
    while (!failed) {
      throwIfInterrupted(signal)
      const next = iterator.next()
      if (next.done) return
      await work(next.value)
    }
  }
  const lanes = Array.from({ length: IN_FLIGHT }, () =>
    lane().catch((error: unknown) => {
      failed = true
      throw error
    }),
  )
  const ended = await Promise.allSettled(lanes)
  for (const outcome of ended) if (outcome.status === 'rejected') throw outcome.reason
}

function* offsets(length: number): Generator<number> {
  for (let offset = 0; offset < length; offset += BLOCK_BYTES) yield offset
}
