import type { DatabaseSync } from 'node:sqlite'
import { numberOrNull, type Row, textOrNull, toError } from './rows.ts'

/** The table `runs`: what was done. */

export type Operation = 'backup' | 'restore' | 'verify' | 'drill' | 'prune'
export type Outcome = 'complete' | 'partial' | 'failed' | 'interrupted'

export interface NewRun {
  operation: Operation
  service: string
  source: string
  destination?: string
  kind?: 'full' | 'incremental'
  origin: 'command' | 'schedule'
}

export interface RunEnd {
  outcome: Outcome
  /** What was really done, where it differs from what was asked. */
  kind?: 'full' | 'incremental'
  point?: string
  bytes?: { source: number; read: number; new: number; stored: number }
  files?: number
  /** How many things are missing from the point. */
  missed?: number
  removed?: Removed
  error?: { code: string; message: string }
}

/** By a prune. */
export interface Removed {
  points: number
  /** Freed, less what was written anew. */
  bytes: number
}

export interface Run {
  id: number
  operation: string
  service: string
  source: string
  destination: string | null
  kind: 'full' | 'incremental' | null
  origin: string
  pid: number | null
  startedAt: number
  endedAt: number | null
  outcome: Outcome | 'running'
  point: string | null
  bytes: { source: number; read: number; new: number; stored: number } | null
  files: number | null
  missed: number
  removed: Removed | null
  error: { code: string; message: string } | null
}

export interface RunFilter {
  operation?: Operation
  service?: string
  source?: string
  /** Default 1000. */
  limit?: number
}

export interface LearnedPoint {
  service: string
  source: string
  destination?: string
  kind: 'full' | 'incremental'
  point: string
  startedAt: number
  committedAt: number
  missed: number
  bytes: { source: number; read: number; new: number; stored: number }
  files: number
}

/** What at most one process of a machine works on at a time: a source, or (of an empty source) the repository at a destination. */
export interface RunPlace {
  operation: 'backup' | 'prune'
  service: string
  source: string
  /** Null: any. */
  destination: string | null
}

/** A run's row is dropped when this many newer ones are there: more than two years of one run every hour. */
const RUNS_KEPT = 20_000

export function insertRun(database: DatabaseSync, run: NewRun, pid: number, now: number): number {
  const { lastInsertRowid } = database
    .prepare(
      `insert into runs (operation, service, source, destination, kind, origin, pid, started_at, outcome)
       values (?, ?, ?, ?, ?, ?, ?, ?, 'running')`,
    )
    .run(run.operation, run.service, run.source, run.destination ?? null, run.kind ?? null, run.origin, pid, now)
  const id = Number(lastInsertRowid)
  database.prepare('delete from runs where id <= ?').run(id - RUNS_KEPT)
  return id
}

export function updateRun(database: DatabaseSync, id: number, end: RunEnd, now: number): void {
  // Another process may have learned the point from the repository in the moment between its commit and this line.
  if (end.point !== undefined) {
    database.prepare("delete from runs where point = ? and id <> ? and origin = 'repository'").run(end.point, id)
  }
  database
    .prepare(
      `update runs set ended_at = ?, outcome = ?, kind = coalesce(?, kind), point = ?, bytes_source = ?, bytes_read = ?,
       bytes_new = ?, bytes_stored = ?, files = ?, missed = ?, removed_points = ?, removed_bytes = ?, error_code = ?,
       error_message = ? where id = ?`,
    )
    .run(
      now,
      end.outcome,
      end.kind ?? null,
      end.point ?? null,
      end.bytes?.source ?? null,
      end.bytes?.read ?? null,
      end.bytes?.new ?? null,
      end.bytes?.stored ?? null,
      end.files ?? null,
      end.missed ?? 0,
      end.removed?.points ?? null,
      end.removed?.bytes ?? null,
      end.error?.code ?? null,
      end.error?.message ?? null,
      id,
    )
}

/** The caller has the lock of these, so no process is at work on them any more. */
export function markCutShort(database: DatabaseSync, runs: RunPlace, now: number): void {
  database
    .prepare(
      `update runs set outcome = 'interrupted', ended_at = ?, error_code = 'interrupted',
       error_message = 'The process ended before the run did.'
       where outcome = 'running' and operation = ? and service = ? and source = ? and (? is null or destination = ?)`,
    )
    .run(now, runs.operation, runs.service, runs.source, runs.destination, runs.destination)
}

export function insertPoint(database: DatabaseSync, point: LearnedPoint): number {
  const { changes } = database
    .prepare(
      `insert or ignore into runs (operation, service, source, destination, kind, origin, started_at, ended_at, outcome,
       point, bytes_source, bytes_read, bytes_new, bytes_stored, files, missed)
       values ('backup', ?, ?, ?, ?, 'repository', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    )
    .run(
      point.service,
      point.source,
      point.destination ?? null,
      point.kind,
      point.startedAt,
      point.committedAt,
      point.missed === 0 ? 'complete' : 'partial',
      point.point,
      point.bytes.source,
      point.bytes.read,
      point.bytes.new,
      point.bytes.stored,
      point.files,
      point.missed,
    )
  return Number(changes)
}

export function selectRuns(database: DatabaseSync, filter: RunFilter): Run[] {
  const rows = database
    .prepare(
      `select * from runs where (?1 is null or operation = ?1) and (?2 is null or service = ?2)
       and (?3 is null or source = ?3) order by started_at desc, id desc limit ?4`,
    )
    .all(filter.operation ?? null, filter.service ?? null, filter.source ?? null, filter.limit ?? 1000)
  return rows.map(toRun)
}

function toRun(row: Row): Run {
  const kind = row.kind === 'full' || row.kind === 'incremental' ? row.kind : null
  return {
    id: Number(row.id),
    operation: String(row.operation),
    service: String(row.service),
    source: String(row.source),
    destination: textOrNull(row.destination),
    kind,
    origin: String(row.origin),
    pid: numberOrNull(row.pid),
    startedAt: Number(row.started_at),
    endedAt: numberOrNull(row.ended_at),
    outcome: String(row.outcome) as Run['outcome'],
    point: textOrNull(row.point),
    bytes:
      row.bytes_source === null
        ? null
        : {
            source: Number(row.bytes_source),
            read: Number(row.bytes_read),
            new: Number(row.bytes_new),
            stored: Number(row.bytes_stored),
          },
    files: numberOrNull(row.files),
    missed: Number(row.missed),
    removed:
      row.removed_points === null ? null : { points: Number(row.removed_points), bytes: Number(row.removed_bytes) },
    error: toError(row),
  }
}
