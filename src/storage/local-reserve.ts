import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoName } from '../filesystem/durable.ts'
import { ROOM_ASIDE_BYTES } from './contract.ts'
import { temporaryName } from './local-temporaries.ts'

/**
 * Room set aside on the disk of a store: a file that is nothing but its size. Removal has to write a little before it may
 * free anything, so on a disk that is full to the last byte it could not even begin. It takes that little from here, as much
 * as each write needs and no more: whoever else waits for room on that disk would take what is given up at once.
 *
 * `+` is in no object's name, so the file can neither hide an object nor be taken for one.
 */
const RESERVE_FILE = '+reserve'

/** What is taken at a time at least: a file's blocks, and those of the folder that grows for its name. */
const STEP_BYTES = 64 * 1024

/** Fills the reserve up. False: the disk has too little room for all of it; what there was is in it. */
export async function fillReserve(root: string): Promise<boolean> {
  const handle = await openReserve(root)
  if (handle === null) return false
  try {
    const { size } = await handle.stat()
    if (size >= ROOM_ASIDE_BYTES) return true
    // Bytes that do not compress: some file systems would keep others without using room for them.
    const missing = createHash('shake256', { outputLength: ROOM_ASIDE_BYTES - size })
      .update(temporaryName())
      .digest()
    await writeFrom(handle, size, missing)
    // Whether there is room is told by some file systems only now.
    await handle.datasync()
    return true
  } catch (error) {
    if (!isFull(error)) throw error
    return false
  } finally {
    await handle.close()
  }
}

/** Gives up enough of the reserve for an object of so many bytes, or all that is left. False: nothing is left. */
export async function takeFromReserve(root: string, bytes: number): Promise<boolean> {
  const handle = await open(join(root, RESERVE_FILE), constants.O_RDWR | constants.O_NOFOLLOW).catch(() => null)
  if (handle === null) return false
  try {
    const { size } = await handle.stat()
    if (size === 0) return false
    await handle.truncate(Math.max(0, size - STEP_BYTES * (1 + Math.ceil(bytes / STEP_BYTES))))
    // File systems with a journal give blocks back only once it is written.
    await handle.sync()
    return true
  } finally {
    await handle.close()
  }
}

/** ENOSPC, or a quota that is used up. */
export function isFull(error: unknown): boolean {
  const errno = errnoName(error)
  return errno === 'ENOSPC' || errno === 'EDQUOT'
}

/** Null: there is not even room for its name. */
async function openReserve(root: string): Promise<FileHandle | null> {
  try {
    return await open(join(root, RESERVE_FILE), constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
  } catch (error) {
    if (isFull(error)) return null
    throw error
  }
}

/** At their place in the file, so that two who fill it do not make it larger. */
async function writeFrom(handle: FileHandle, offset: number, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done)
    if (bytesWritten === 0) throw Object.assign(new Error('EIO: nothing was written'), { code: 'EIO' })
    done += bytesWritten
  }
}
