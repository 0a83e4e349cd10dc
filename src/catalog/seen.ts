import type { DatabaseSync } from 'node:sqlite'

/** The tables `seen_repositories` and `seen_points`: what was at a place when this machine looked last. */

export interface SeenRepository {
  /** 32 hex digits. */
  id: string
  points: SeenPoint[]
}

export interface SeenPoint {
  source: string
  point: string
  /** RFC 3339 UTC. */
  committedAt: string
  /** Found gone, without a record that it was removed on purpose. */
  isLost: boolean
}

export interface SeenPlace {
  service: string
  /** Repository.location: configurations may give the same name to different places. */
  location: string
}

export function selectSeen(database: DatabaseSync, { service, location }: SeenPlace): SeenRepository | null {
  const repository = database
    .prepare('select id from seen_repositories where service = ? and location = ?')
    .get(service, location)
  if (repository === undefined) return null
  const points = database
    .prepare('select * from seen_points where service = ? and location = ? order by source, committed_at')
    .all(service, location)
    .map((row) => ({
      source: String(row.source),
      point: String(row.point),
      committedAt: String(row.committed_at),
      isLost: row.is_lost === 1,
    }))
  return { id: String(repository.id), points }
}

export function replaceSeen(
  database: DatabaseSync,
  { service, location }: SeenPlace,
  { id, points }: SeenRepository,
  now: number,
): void {
  database
    .prepare('insert or replace into seen_repositories (service, location, id, seen_at) values (?, ?, ?, ?)')
    .run(service, location, id, now)
  database.prepare('delete from seen_points where service = ? and location = ?').run(service, location)
  const insert = database.prepare('insert or replace into seen_points values (?, ?, ?, ?, ?, ?)')
  for (const { source, point, committedAt, isLost } of points)
    insert.run(service, location, source, point, committedAt, isLost ? 1 : 0)
}
