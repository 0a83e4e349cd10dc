import { readdir, realpath } from 'node:fs/promises'
import { RegainError } from '../errors.ts'
import { CLAIM_NAME } from '../filesystem/target-claim.ts'
import type { Application } from './context.ts'

/** What a directory must be, or must not, before a restore goes there. */

/** What the point does not have is removed: of all things, that must not be the backups, nor a part of them. */
export async function refuseOwnFolders({ config }: Application, root: string): Promise<void> {
  const own = [
    config.path,
    config.state,
    ...Object.values(config.destinations).flatMap((place) => (place.type === 'local' ? [place.path] : [])),
    ...Object.values(config.keys).flatMap((key) => (key.type === 'file' ? [key.path] : [])),
  ]
  const real = (path: string): Promise<string> => realpath(path).catch(() => path)
  const folder = await real(root)
  for (const path of own) {
    const place = await real(path)
    const isHeld = isWithin(place, folder)
    if (!isHeld && !isWithin(folder, place)) continue
    throw new RegainError(
      'precondition-failed',
      `${root} ${isHeld ? 'holds' : 'lies in'} ${path}, which is Regain's own: nothing is written over such a directory. Nothing was changed.`,
      { hint: `Restore into a new directory${isHeld ? ', or name one further down that holds only the data' : ''}.` },
    )
  }
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`)
}

export async function holdsAnything(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new RegainError(
      'precondition-failed',
      `${directory} cannot be looked into (${error.code}). Nothing was changed.`,
    )
  })
  return names.length > 0
}

export async function checkEmpty(directory: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(directory)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return
    if (code === 'ENOTDIR')
      throw new RegainError('target-not-empty', `${directory} is not a directory. Nothing was changed.`)
    if (code === 'EACCES')
      throw new RegainError('not-permitted', `${directory} may not be read by this user. Nothing was changed.`)
    throw error
  }
  if (names.includes(CLAIM_NAME)) {
    throw new RegainError(
      'target-not-empty',
      `${directory} holds a restore that is under way, or was cut short. Nothing in it was changed.`,
      { hint: 'Wait for it; or, if none is running, empty the directory or name another one with --to.' },
    )
  }
  if (names.length > 0) {
    throw new RegainError('target-not-empty', `${directory} is not empty. Nothing in it was changed.`)
  }
}
