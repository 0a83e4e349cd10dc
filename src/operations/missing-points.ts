import { originOf, type Point } from '../model.ts'

/** Points of one source in one repository, oldest first. */
export interface PointsAt {
  /** Its id. */
  repository: string
  points: readonly Point[]
}

/** Two hosts' clocks may differ by this much without anything being wrong. */
const CLOCK_TOLERANCE_MS = 5 * 60_000

/**
 * Points that are not there, oldest first. Those older than the newest one there were removed there, or never wanted, and
 * are left out but with `all`. No wrong clock makes a new point one of those: one there that is dated later than now is
 * no measure, and one that is dated before the point it followed is as new as that.
 */
export function missingPoints(here: PointsAt, there: PointsAt, { all, now }: { all: boolean; now: number }): Point[] {
  const held = new Set(there.points.map((point) => keyOf(point, there)))
  const missing = here.points.filter((point) => !held.has(keyOf(point, here)))
  if (all) return missing
  const newest = there.points.findLast(({ committedAt }) => Date.parse(committedAt) <= now + CLOCK_TOLERANCE_MS)
  if (newest === undefined) return missing
  const dated = new Map(here.points.map(({ id, committedAt }) => [id, committedAt]))
  return missing.filter(({ committedAt, previous, origin }) => {
    if (committedAt > newest.committedAt) return true
    // A copy is dated as its original, and may follow a newer one: that says nothing of a clock.
    const followed = origin === undefined ? dated.get(previous?.id ?? '') : undefined
    return followed !== undefined && committedAt < followed && followed >= newest.committedAt
  })
}

function keyOf(point: Point, { repository }: PointsAt): string {
  const origin = originOf(point, repository)
  return `${origin.repository}/${origin.point}`
}
