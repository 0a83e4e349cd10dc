import { isRegainError, type RegainError } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import type { Catalog, NewRun, RunEnd } from './catalog.ts'

/** A point that was committed, and what else a person must see to now (SourceSummary.trouble). */
export interface TakenPoint {
  point: Point
  trouble: RegainError | null
  /** What was found at the destination before, and a person must hear of. */
  warnings?: string[]
  /** Milliseconds that it waited because others kept the processors busy. Left out of a copy, which does not. */
  gaveWayMs?: number
}

/**
 * Does one backup under its source's lock and keeps book of it: begun, and however it ends, ended. Both `regain backup`
 * and the daemon go through here, so the two never back the same source up at once on one machine.
 *
 * Rejects with what `backup` rejects with, or `precondition-failed` when another process is at it. The book is a
 * convenience: when it cannot be written the backup goes on, and `ambient.log` hears of it.
 */
export async function recordBackup(
  catalog: Catalog,
  run: Omit<NewRun, 'operation'>,
  ambient: Ambient,
  backup: () => Promise<TakenPoint>,
): Promise<TakenPoint> {
  const purpose = run.origin === 'command' ? 'regain backup' : 'regain serve'
  const lock = catalog.lockSource(run.service, run.source, `${purpose}, ${run.service}/${run.source}`)
  try {
    const id = note(ambient, () => catalog.beginRun({ ...run, operation: 'backup' }))
    const end = (result: RunEnd) => {
      if (id !== null) note(ambient, () => catalog.endRun(id, result))
    }
    try {
      const taken = await backup()
      end(ofPoint(taken))
      return taken
    } catch (error) {
      end(ofError(error))
      throw error
    }
  } finally {
    lock.release()
  }
}

/**
 * The same for one prune of a service's repository at a destination, under that repository's lock on this machine. `prune`
 * resolves to null if nothing was to be carried out.
 */
export async function recordPrune<T extends PruneResult | null>(
  catalog: Catalog,
  run: { service: string; destination: string; origin: 'command' | 'schedule' },
  ambient: Ambient,
  prune: () => Promise<T>,
): Promise<T> {
  const purpose = run.origin === 'command' ? 'regain prune' : 'regain serve'
  const lock = catalog.lockPrune(run.service, run.destination, `${purpose}, ${run.service} at ${run.destination}`)
  try {
    const id = note(ambient, () => catalog.beginRun({ ...run, source: '', operation: 'prune' }))
    const end = (result: RunEnd) => {
      if (id !== null) note(ambient, () => catalog.endRun(id, result))
    }
    try {
      const report = await prune()
      const removed = { points: report?.expired.length ?? 0, bytes: report?.bytesFreed ?? 0 }
      end({ outcome: 'complete', removed })
      return report
    } catch (error) {
      end(ofError(error))
      throw error
    }
  } finally {
    lock.release()
  }
}

/** What the book keeps of a prune's report. */
export interface PruneResult {
  expired: readonly string[]
  bytesFreed: number
}

/** With trouble or without, the point is there: the schedule must not take another one because of it. */
function ofPoint({ point, trouble }: TakenPoint): RunEnd {
  return {
    outcome: point.complete ? 'complete' : 'partial',
    kind: point.kind,
    point: point.id,
    bytes: point.bytes,
    files: point.entries,
    missed: point.missedCount,
    ...(trouble === null ? {} : { error: describeError(trouble) }),
  }
}

function ofError(error: unknown): RunEnd {
  const { code, message } = describeError(error)
  return { outcome: code === 'interrupted' ? 'interrupted' : 'failed', error: { code, message } }
}

/** Code and message of any error; one that is not a RegainError is a bug and gets the code `internal`. */
export function describeError(error: unknown): { code: string; message: string } {
  if (isRegainError(error)) return { code: error.code, message: error.message }
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) }
}

/** Even a bug in the book must not make a backup that was committed look like a failed one. */
function note<T>(ambient: Ambient, write: () => T): T | null {
  try {
    return write()
  } catch (error) {
    const { code, message } = describeError(error)
    ambient.log('warning', `The run could not be noted in the state file: ${message}`, { code })
    return null
  }
}
