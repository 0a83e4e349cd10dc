import type { Point } from '../model.ts'
import type { BackupOutcome } from '../operations/backup.ts'
import type { RestoreOutcome } from '../operations/restore.ts'

/** The objects of --json that programs rely on (docs/cli.md). Fields are added freely, never changed or taken away. */

export function pointShape(point: Point): object {
  const { id, kind, startedAt, committedAt, complete, positions } = point
  return {
    id,
    kind,
    startedAt,
    committedAt,
    complete,
    positions,
    ...(point.label === undefined ? {} : { label: point.label }),
    ...(point.origin === undefined ? {} : { origin: point.origin }),
  }
}

export function backupShape(outcome: BackupOutcome & { point: Point }): object {
  const { service, source, destination, point, durationMs, gaveWayMs } = outcome
  return {
    operation: 'backup',
    service,
    source,
    destination,
    point: pointShape(point),
    bytes: point.bytes,
    files: point.entries,
    durationMs,
    gaveWayMs,
    missed: point.missed,
    missedCount: point.missedCount,
    ...(outcome.warnings.length === 0 ? {} : { warnings: outcome.warnings }),
  }
}

export function restoreShape(outcome: RestoreOutcome): object {
  const {
    service,
    source,
    destination,
    target,
    point,
    reached,
    bytes,
    files,
    startedAt,
    durationMs,
    missed,
    connection,
    over,
    leftOut,
  } = outcome
  return {
    operation: 'restore',
    service,
    source,
    destination,
    target,
    point: pointShape(point),
    reached: reached ?? point.committedAt,
    bytes,
    files,
    startedAt,
    durationMs,
    missed,
    ...(leftOut === undefined ? {} : { leftOut }),
    ...(over === undefined ? {} : { inPlace: over }),
    ...(connection === undefined ? {} : { connection }),
  }
}
