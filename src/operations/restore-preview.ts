import { statfs } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { type Prediction, predictRestore, type RestoreFact } from '../policy/restore-time.ts'
import { openBook } from './book.ts'
import type { Application, Reporting } from './context.ts'
import { withRepository } from './repositories.ts'
import type { RestorePart, RestorePlan } from './restore-plan.ts'

/** What a part of a restore will cost, as far as it can be known without doing it. */
export interface PartPreview {
  /** RFC 3339 UTC: points and log reach this far. */
  until: string
  /** Null: only some paths are restored, and which is known when they are. Over what is there both are the most it can be. */
  bytes: { read: number; write: number; log: number } | null
  predicted: Prediction | null
  /** Of the file system that the directory is, or will be, on. */
  space: { neededBytes: number | null; freeBytes: number }
}

/** Restores that are looked at for their pace. */
const RUNS_CONSIDERED = 100

/** Reads the listing of each point, and no content. Changes nothing. */
export async function previewRestore(
  application: Application,
  plan: RestorePlan,
  reporting: Reporting,
): Promise<PartPreview[]> {
  const previews: PartPreview[] = []
  for (const part of plan.parts) previews.push(await previewPart(application, part, reporting))
  return previews
}

async function previewPart(application: Application, part: RestorePart, reporting: Reporting): Promise<PartPreview> {
  const freeBytes = await freeBytesAt(part.directory)
  if (part.path !== null) {
    return { until: part.until, bytes: null, predicted: null, space: { neededBytes: null, freeBytes } }
  }
  const { service, destination, point } = part
  const size = await withRepository(application, service, destination, async (repository) => {
    const reader = await repository.openPoint(point.id, { signal: reporting.signal })
    try {
      return await reader.measure()
    } finally {
      await reader.close()
    }
  })
  const log = part.start ? part.logBytes : 0
  return {
    until: part.until,
    bytes: { read: size.readBytes + log, write: size.writeBytes, log },
    predicted: predictRestore(size.writeBytes + log, restoreFacts(application, part, reporting)),
    // Over what is there, what stays needs no more room.
    space: { neededBytes: part.inPlace ? null : size.writeBytes, freeBytes },
  }
}

/** Of the nearest directory above that is there. */
async function freeBytesAt(directory: string): Promise<number> {
  for (let at = resolve(directory); ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at)
      return bavail * bsize
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === dirname(at)) throw error
    }
  }
}

function restoreFacts(application: Application, part: RestorePart, reporting: Reporting): RestoreFact[] {
  const book = openBook(application, reporting)
  try {
    const runs = book?.runs({ operation: 'restore', limit: RUNS_CONSIDERED }) ?? []
    return runs.flatMap(({ outcome, endedAt, startedAt, bytes, service, source }) => {
      if (outcome !== 'complete' || endedAt === null || bytes === null) return []
      const isOfSource = service === part.service.name && source === part.source.name
      return [{ workBytes: bytes.read, durationMs: endedAt - startedAt, isOfSource }]
    })
  } finally {
    book?.close()
  }
}
