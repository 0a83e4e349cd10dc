import { isRegainError } from '../../errors.ts'
import { type Entry, originOf, type Point } from '../../model.ts'
import type { OpenPoint, Repository } from '../api.ts'
import { contentBytes } from '../listing/listing-reader.ts'
import { isDamage, isLoss } from '../verify/damage.ts'

/** Points of the other repository that are looked into where it has no copy of the very point. */
const NEIGHBOURS = 2

export interface Donor {
  point: OpenPoint
  entry: Entry
}

/**
 * Where another repository may hold what a point misses: in its copy of that point, or else in the points of the source that
 * were taken right before and after it. Ids prove what they give; here is only guessed. Each is opened when it is first asked for.
 */
export class Donors {
  private readonly from: Repository
  private readonly signal: AbortSignal
  private readonly same: Point | null
  private readonly others: Point[]
  private readonly opened = new Map<string, Promise<OpenPoint | null>>()

  /** `points`: all that the other repository has of the source. */
  constructor(
    own: { repository: string; point: Point },
    from: Repository,
    points: readonly Point[],
    signal: AbortSignal,
  ) {
    this.from = from
    this.signal = signal
    const origin = originOf(own.point, own.repository)
    const isSame = (point: Point) => {
      const { repository, point: id } = originOf(point, from.id)
      return repository === origin.repository && id === origin.point
    }
    this.same = points.find(isSame) ?? null
    this.others = this.same ? [] : nearest(own.point, points, NEIGHBOURS)
  }

  /** The other repository's copy of the very point. */
  counterpart(): Promise<OpenPoint | null> {
    return this.same ? this.open(this.same) : Promise.resolve(null)
  }

  /** Files of the same place and as much content. */
  async *of(entry: Entry): AsyncGenerator<Donor, void, undefined> {
    for (const candidate of this.same ? [this.same] : this.others) {
      const point = await this.open(candidate)
      const found = point && (await lossAsNull(() => point.entry(entry.path)))
      if (point && found && found.type === 'file' && contentBytes(found) === contentBytes(entry))
        yield { point, entry: found }
    }
  }

  async close(): Promise<void> {
    for (const point of this.opened.values()) await (await point)?.close()
  }

  private open(point: Point): Promise<OpenPoint | null> {
    const known = this.opened.get(point.id)
    if (known) return known
    const opened = this.tryOpen(point.id)
    this.opened.set(point.id, opened)
    return opened
  }

  private async tryOpen(id: string): Promise<OpenPoint | null> {
    try {
      return await this.from.openPoint(id, { signal: this.signal })
    } catch (error) {
      // Removed there since, or hurt as well.
      if (isRegainError(error, 'point-not-found') || isDamage(error)) return null
      throw error
    }
  }
}

export function nearest(to: Point, points: readonly Point[], count: number): Point[] {
  const distance = (point: Point) => Math.abs(Date.parse(point.committedAt) - Date.parse(to.committedAt))
  return points
    .filter(({ id, source }) => id !== to.id && source === to.source)
    .sort((a, b) => distance(a) - distance(b))
    .slice(0, count)
}

/** Null if a part of a repository that would answer is damaged or gone. */
export async function lossAsNull<T>(look: () => Promise<T>): Promise<T | null> {
  try {
    return await look()
  } catch (error) {
    if (isLoss(error)) return null
    throw error
  }
}
