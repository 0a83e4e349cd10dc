import { RegainError } from '../../../errors.ts'
import type { Point } from '../../../model.ts'
import { checkSegmentBytes } from '../log/wal.ts'
import { formatLsn, type Lsn, parseLsn } from '../protocol/lsn.ts'
import type { Tablespace } from './base-backup.ts'

/** What a point of this driver records beside its files; in the repository as JSON (see `toRecord`). */
export interface Positions {
  systemId: string
  /** '18.4'. */
  version: string
  major: number
  timeline: number
  /** WAL from here on is needed to use the files; from `stopLsn` on they are consistent. */
  startLsn: Lsn
  stopLsn: Lsn
  /** By the server's clock, RFC 3339 UTC: before the first byte, and after the last. */
  startTime: string
  stopTime: string
  segmentBytes: number
  dataChecksums: boolean
  standby: boolean
  /** What the files are of: 'x86_64', 'aarch64'; null: the server did not say, or an earlier version of Regain did not ask. */
  machine: string | null
  /** When the server was started, by its clock; null: an earlier version of Regain did not ask. */
  serverStartedAt: string | null
  tablespaces: Tablespace[]
  /** Run-time settings that replaying needs, as the server had them. */
  settings: Record<string, string>
}

export function toRecord(positions: Positions): Record<string, unknown> {
  const { segmentBytes, startLsn, stopLsn, ...rest } = positions
  return { ...rest, startLsn: formatLsn(startLsn), stopLsn: formatLsn(stopLsn), walSegmentBytes: segmentBytes }
}

/** Throws `repository-damaged` if the point's positions are not what `toRecord` makes. */
export function positionsOf(point: Pick<Point, 'id' | 'positions'>): Positions {
  const record = point.positions
  const fail = (field: string): RegainError =>
    new RegainError(
      'repository-damaged',
      `The recovery point ${point.id} does not say its ${field} in a form that PostgreSQL's points have.`,
    )
  const text = (field: string): string => {
    const value = record[field]
    if (typeof value !== 'string' || value === '') throw fail(field)
    return value
  }
  const whole = (field: string): number => {
    const value = record[field]
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw fail(field)
    return value
  }
  const time = (field: string): string => {
    if (Number.isNaN(Date.parse(text(field)))) throw fail(field)
    return text(field)
  }
  return {
    systemId: text('systemId'),
    version: text('version'),
    major: whole('major'),
    timeline: whole('timeline'),
    startLsn: parseLsn(text('startLsn')),
    stopLsn: parseLsn(text('stopLsn')),
    startTime: time('startTime'),
    stopTime: time('stopTime'),
    segmentBytes: checkSegmentBytes(whole('walSegmentBytes')),
    dataChecksums: record.dataChecksums === true,
    standby: record.standby === true,
    machine: typeof record.machine === 'string' ? record.machine : null,
    serverStartedAt: typeof record.serverStartedAt === 'string' ? record.serverStartedAt : null,
    tablespaces: tablespacesOf(record.tablespaces) ?? fail_(fail('tablespaces')),
    settings: settingsOf(record.settings) ?? fail_(fail('settings')),
  }
}

function fail_(error: RegainError): never {
  throw error
}

function tablespacesOf(value: unknown): Tablespace[] | null {
  if (!Array.isArray(value)) return null
  const tablespaces: Tablespace[] = []
  for (const item of value as unknown[]) {
    const { oid, location } = (item ?? {}) as Record<string, unknown>
    // The oid becomes part of a path.
    if (typeof oid !== 'string' || !/^\d+$/.test(oid) || typeof location !== 'string') return null
    tablespaces.push({ oid, location })
  }
  return tablespaces
}

function settingsOf(value: unknown): Record<string, string> | null {
  if (typeof value !== 'object' || value === null) return null
  const entries = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return Object.fromEntries(entries)
}
