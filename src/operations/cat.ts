import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Application, Reporting } from './context.ts'
import { findPoint, withPoint } from './find-point.ts'
import { cleanPath } from './ls.ts'

export interface CatRequest {
  point: string
  path: string
}

/**
 * Hands over a file's content in order, every chunk verified before it is given; memory stays flat. `onBytes` resolves
 * to false to end early.
 */
export async function readContent(
  application: Application,
  request: CatRequest,
  reporting: Reporting,
  onBytes: (bytes: Buffer) => Promise<boolean>,
): Promise<void> {
  const found = await findPoint(application, request.point, reporting)
  const path = cleanPath(request.path)
  await withPoint(application, found, reporting, async (point) => {
    let entry = await point.entry(path)
    if (entry?.hardLink !== undefined) entry = await point.entry(entry.hardLink)
    if (entry === null) {
      throw new RegainError('point-not-found', `The point ${found.point.id} has no entry "${path}".`, {
        hint: `List it with: regain ls ${found.point.id.slice(0, 8)}`,
      })
    }
    if (entry.type !== 'file') throw new RegainError('usage', `"${path}" is a ${entry.type}, which has no content.`)
    if (entry.damaged !== undefined) reporting.warn(`"${path}" is not a faithful copy: ${entry.damaged}`)
    for await (const bytes of point.stream(entry)) {
      throwIfInterrupted(reporting.signal)
      if (!(await onBytes(bytes))) return
    }
  })
}
