import type { Repository } from '../repository/api.ts'

/** What a person must know of a rekey that was begun and did not come to its end; null if there is none. */
export function unfinishedRekey(
  { keyEpoch: { current, oldest } }: Repository,
  service: string,
): { message: string; fix: string } | null {
  if (oldest >= current) return null
  return {
    message: `a rekey was begun and is not done: key epoch ${current} is in use, and what was stored before still opens with the old data key`,
    fix: `Go on with it: regain repository rekey ${service}. The daily prune of regain serve does so too.`,
  }
}
