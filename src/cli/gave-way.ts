import { formatDuration } from '../config/duration.ts'
import type { BackupOutcome } from '../operations/backup.ts'
import { wasHeldBack } from '../operations/gave-way.ts'

/** Why a backup took so long, for people; null if that was not others on the machine. */
export function gaveWayLine({ gaveWayMs, durationMs }: Pick<BackupOutcome, 'gaveWayMs' | 'durationMs'>): string | null {
  if (!wasHeldBack(gaveWayMs, durationMs)) return null
  return `  ${formatDuration(gaveWayMs)} of that it waited, because others kept the processors busy (limits: busy in regain.yaml)`
}
