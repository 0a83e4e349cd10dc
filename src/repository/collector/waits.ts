import type { OpenSession } from './sessions.ts'

/** Why removal waits, for people. */
export function waitsFor(sessions: readonly OpenSession[]): string[] {
  return sessions.map(
    ({ source, startedAt }) =>
      `A backup of ${source} is running since ${startedAt}: what it might use is removed by the next prune after it has ended.`,
  )
}
