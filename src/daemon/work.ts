import type { TakenPoint } from '../catalog/record.ts'
import type { Point, PointKind } from '../model.ts'
import type { PruneReport } from '../operations/prune.ts'
import type { FollowerOptions, LogGuard } from '../sources/contract.ts'

/** A source by its names in the configuration. */
export interface SourceName {
  service: string
  source: string
}

export function nameOf({ service, source }: SourceName): string {
  return `${service}/${source}`
}

/**
 * What the daemon has done for it: the same operations that the command line calls, bound to the configuration in
 * effect. operations.ts makes one; after a reload a new one takes its place.
 */
export interface DaemonWork {
  /**
   * One backup of one source to one destination, noted in the catalog and under the source's lock. A point that serves
   * and was taken at another destination since `since` (milliseconds since the epoch) is copied from there: the source is
   * read once. Rejects with `precondition-failed` when another process is at it; when the signal fires, ends within seconds
   * with nothing half visible.
   */
  backup(
    name: SourceName,
    destination: string,
    options: { kind: PointKind; since: number; signal: AbortSignal },
  ): Promise<TakenPoint>
  /** Follows the source's log into all its destinations until the signal fires; rejects when it cannot go on. */
  follow(name: SourceName, options: FollowerOptions): Promise<void>
  /** Watches what the source keeps for its log; null: nothing, because it is not followed. */
  guard(name: SourceName): Promise<LogGuard | null>
  /**
   * Removes what retention does not keep of a service's repository, noted in the catalog and under its lock. Rejects with
   * `precondition-failed` when another process is at it; ends within seconds when the signal fires.
   */
  prune(service: string, destination: string, signal: AbortSignal): Promise<PruneReport>
  /** Points of a service's repository, for what the catalog does not know (any more). */
  points(service: string, destination: string): Promise<Point[]>
}
