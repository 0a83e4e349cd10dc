import { posix } from 'node:path'
import type { Ambient } from '../model.ts'
import { saysAbsent } from './sftp-errors.ts'
import { readFolderTwice } from './sftp-files.ts'
import type { SftpSession } from './sftp-session.ts'

/**
 * Where objects are written before they get their names, as in local storage. `+` is in no object's name, so the
 * folder can neither hide an object nor be taken for one.
 */
export const TEMPORARY_FOLDER = '+tmp'

const STALE_AFTER_MS = 24 * 60 * 60 * 1000

const TEMPORARY_NAME = /^[0-9a-f]{32}$/

/** Random: writers on other hosts share the folder. */
export function temporaryName(ambient: Pick<Ambient, 'randomBytes'>): string {
  return ambient.randomBytes(16).toString('hex')
}

/**
 * Removes what killed processes left behind, a day after it was last written by the server's clock against this host's.
 * A writer that slept for a day, or whose clocks are a day apart, finds its file gone and fails cleanly.
 */
export async function removeStaleTemporaries(
  session: SftpSession,
  root: string,
  ambient: Pick<Ambient, 'now' | 'log'>,
): Promise<void> {
  const folder = posix.join(root, TEMPORARY_FOLDER)
  try {
    for (const [name, { attrs }] of await readFolderTwice(session, folder, undefined)) {
      if (!TEMPORARY_NAME.test(name) || !attrs.isFile()) continue
      if (ambient.now() - attrs.mtime * 1000 > STALE_AFTER_MS) await removeIfThere(session, posix.join(folder, name))
    }
  } catch (error) {
    if (saysAbsent(error)) return
    const cause = error instanceof Error ? error.message : String(error)
    ambient.log('warning', 'Files left by interrupted writes could not be removed; they only take up space.', { cause })
  }
}

async function removeIfThere(session: SftpSession, path: string): Promise<void> {
  try {
    await session.remove(path)
  } catch (error) {
    // Its writer finished, or another process removed it.
    if (!saysAbsent(error)) throw error
  }
}
