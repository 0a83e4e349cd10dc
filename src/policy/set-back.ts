/**
 * Whether a repository is behind what was seen of it. Its own objects can't tell: who sets a whole store back sets back
 * every object in it. Only memory outside of it can, and this machine's is one.
 */
export interface SeenThen {
  id: string
  points: SeenThenPoint[]
}

export interface SeenThenPoint {
  source: string
  point: string
  /** RFC 3339 UTC. */
  committedAt: string
  isLost: boolean
}

export interface FoundNow {
  id: string
  /** All points that count, oldest first. */
  points: readonly { id: string; source: string; committedAt: string }[]
  /** Ids, of those seen, that were removed on purpose. */
  expired: ReadonlySet<string>
}

export interface Comparison {
  isOther: boolean
  /** Seen, and gone without a record of it. */
  lost: SeenThenPoint[]
  /** To be remembered. */
  next: SeenThen
}

/**
 * A seen point that is gone without a record of its removal is lost if no newer point of its source is there: records of
 * removal do not stay for ever, and a store that was set back shows no newer point. Once found lost it stays so, whatever
 * is taken later, until it is accepted. Of another repository nothing is compared and nothing remembered.
 */
export function compareWithSeen(seen: SeenThen | null, found: FoundNow): Comparison {
  const newest = new Map(found.points.map((point) => [point.source, point]))
  if (seen !== null && seen.id !== found.id) return { isOther: true, lost: [], next: seen }
  const there = new Set(found.points.map(({ id }) => id))
  const lost = (seen?.points ?? []).filter(({ point, source, committedAt, isLost }) => {
    if (there.has(point) || found.expired.has(point)) return false
    const newer = newest.get(source)
    return isLost || newer === undefined || newer.committedAt <= committedAt
  })
  const remembered = [...newest.values()].map(({ id, source, committedAt }) => ({
    source,
    point: id,
    committedAt,
    isLost: false,
  }))
  const next = { id: found.id, points: [...remembered, ...lost.map((point) => ({ ...point, isLost: true }))] }
  return { isOther: false, lost, next }
}
