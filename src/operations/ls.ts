import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Entry, EntryPath } from '../model.ts'
import type { Application, Reporting } from './context.ts'
import { type FoundPoint, findPoint, withPoint } from './find-point.ts'

export interface ListRequest {
  point: string
  /** A directory (what it holds is listed) or a file; '' is the root. */
  path: EntryPath
  recursive: boolean
}

/**
 * Hands over the entries of a point below a path, in order, one by one: a listing can be larger than memory. `onEntry`
 * returns false to end early.
 */
export async function listEntries(
  application: Application,
  request: ListRequest,
  reporting: Reporting,
  onEntry: (entry: Entry) => boolean,
): Promise<FoundPoint> {
  const found = await findPoint(application, request.point, reporting)
  const path = cleanPath(request.path)
  await withPoint(application, found, reporting, async (point) => {
    let isThere = path === ''
    for await (const entry of point.entries()) {
      throwIfInterrupted(reporting.signal)
      if (!isWithin(entry.path, path)) continue
      isThere = true
      if (isShown(entry, path, request.recursive) && !onEntry(entry)) return
    }
    if (!isThere) {
      throw new RegainError('point-not-found', `The point ${found.point.id} has no entry "${path}".`, {
        hint: `List it with: regain ls ${found.point.id.slice(0, 8)}`,
      })
    }
  })
  return found
}

/** As entries write it: no slash at either end, no empty component. */
export function cleanPath(path: string): EntryPath {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')
}

function isWithin(path: EntryPath, folder: EntryPath): boolean {
  return folder === '' || path === folder || path.startsWith(`${folder}/`)
}

/** A directory itself is not shown when its content is: `ls` of people's habit. */
function isShown(entry: Entry, path: EntryPath, recursive: boolean): boolean {
  if (entry.path === path) return entry.type !== 'directory'
  if (entry.path === '') return false
  return recursive || !entry.path.slice(path === '' ? 0 : path.length + 1).includes('/')
}
