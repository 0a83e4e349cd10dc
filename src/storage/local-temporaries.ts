import { lstat, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoName } from '../filesystem/durable.ts'
import type { Ambient } from '../model.ts'

/**
 * Where objects are written before they get their names. `+` is in no object's name, so the folder can neither hide
 * an object nor be taken for one.
 */
export const TEMPORARY_FOLDER = '+tmp'

const STALE_AFTER_MS = 24 * 60 * 60 * 1000

const TEMPORARY_NAME = /^[0-9]+-[0-9]+-[0-9]+$/

let made = 0

/**
 * Different for every call: the process, its monotonic clock, a count. Other hosts may share the folder and happen on
 * the same; the file is made exclusively, so that gives a clean failure.
 */
export function temporaryName(): string {
  return `${process.pid}-${process.hrtime.bigint()}-${made++}`
}

/**
 * Removes what killed processes left behind, a day after it was last written. A process that slept for a day and wakes
 * finds its file gone and fails cleanly. What cannot be removed (a store mounted read-only) stays, with a line in the log.
 */
export async function removeStaleTemporaries(root: string, ambient: Pick<Ambient, 'now' | 'log'>): Promise<void> {
  const folder = join(root, TEMPORARY_FOLDER)
  try {
    for (const name of await readdir(folder)) {
      if (TEMPORARY_NAME.test(name)) await removeIfStale(join(folder, name), ambient.now())
    }
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return
    const cause = error instanceof Error ? error.message : String(error)
    ambient.log('warning', 'Files left by interrupted writes could not be removed; they only take up space.', { cause })
  }
}

async function removeIfStale(path: string, nowMs: number): Promise<void> {
  try {
    const found = await lstat(path)
    if (found.isFile() && nowMs - found.mtimeMs > STALE_AFTER_MS) await unlink(path)
  } catch (error) {
    // Its writer finished, or another process removed it.
    if (errnoName(error) !== 'ENOENT') throw error
  }
}
