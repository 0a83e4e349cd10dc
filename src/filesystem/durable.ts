import { constants } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * What fsync of a file does not do: a name is durable only when the folder that holds it has been synced too.
 * Every function here rejects with the system's own error.
 */

/** Makes every name made, renamed or removed in `folder` before this call durable when it resolves. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Makes `folder` and its missing parents, for this user only (0700). Each folder made is durable when this resolves.
 * One that exists is left as it is.
 */
export async function makeFolders(folder: string): Promise<void> {
  if (await folderExistsOrMade(folder)) return
  await makeFolders(dirname(folder))
  if (!(await folderExistsOrMade(folder))) throw new Error(`${dirname(folder)} vanished while ${folder} was made`)
}

/** False if the parent is missing. */
async function folderExistsOrMade(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, 0o700)
  } catch (error) {
    if (errnoName(error) === 'EEXIST') return true
    if (errnoName(error) === 'ENOENT' && dirname(folder) !== folder) return false
    throw error
  }
  await syncFolder(dirname(folder))
  return true
}

/** 'ENOENT' and the like, for an error of the operating system; undefined for any other, Node's own 'ERR_…' included. */
export function errnoName(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined
  // libuv has no name for it, and Node then says 'Unknown system error -122' (Linux' EDQUOT; the number is of all its machines here).
  if ('errno' in error && error.errno === -122) return 'EDQUOT'
  return /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined
}
