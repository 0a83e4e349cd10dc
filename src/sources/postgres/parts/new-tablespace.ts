import type { Point } from '../../../model.ts'
import type { LogStore } from '../../contract.ts'
import { findEvent } from '../locate.ts'
import type { Lsn } from '../lsn.ts'
import { positionsOf } from '../positions.ts'
import { timedWindows } from '../recovery-log.ts'

/**
 * Where a tablespace is made by log that a recovery from `point` to `until` replays; null: none is. Replaying it links the
 * copy to that very folder, and where the original runs on the same machine, to the original's own files.
 */
export async function findNewTablespace(
  point: Point,
  timeline: number,
  until: Lsn,
  store: LogStore,
  signal: AbortSignal,
): Promise<string | null> {
  const { startLsn } = positionsOf(point)
  const { windows } = await timedWindows([point], store)
  let location: string | null = null
  for (const window of windows) {
    if (window.timeline < timeline) continue
    await findEvent(
      { ...window, from: startLsn },
      store,
      (event) => {
        if (event.kind !== 'tablespace' || event.lsn > until) return false
        location = event.location
        return true
      },
      signal,
    )
  }
  return location
}
