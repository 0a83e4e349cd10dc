import type { Catalog, RunEnd } from '../catalog/catalog.ts'
import type { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { RestorePart } from './restore-plan.ts'

export interface NotedRestore {
  /** `read`: bytes of work, by which the time of the next one is predicted (policy/restore-time.ts). */
  end(result: { outcome: 'complete' | 'partial'; read: number; files: number }): void
  fail(error: RegainError): void
}

/** Keeps book of a restore. The book is a convenience: when it can't be written, the restore goes on and the log hears of it. */
export function noteRestore(book: Catalog | null, part: RestorePart, ambient: Ambient): NotedRestore {
  const note = <T>(write: (book: Catalog) => T): T | null => {
    try {
      return book === null ? null : write(book)
    } catch (error) {
      ambient.log('warning', `The restore could not be noted in the state file: ${(error as Error).message}`)
      return null
    }
  }
  const { service, source, destination, point } = part
  const run = { service: service.name, source: source.name, destination: destination.name }
  const id = note((catalog) => catalog.beginRun({ ...run, operation: 'restore', origin: 'command' }))
  const end = (result: RunEnd): void => {
    if (id !== null) note((catalog) => catalog.endRun(id, result))
  }
  return {
    end: ({ outcome, read, files }) =>
      end({ outcome, files, bytes: { source: point.bytes.source, read, new: 0, stored: 0 } }),
    fail: ({ code, message }) =>
      end({ outcome: code === 'interrupted' ? 'interrupted' : 'failed', error: { code, message } }),
  }
}
