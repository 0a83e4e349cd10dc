import { expirePoint } from '../collector/expire.ts'
import { lastComponent } from '../format/object-names.ts'
import { readCommits, receiptIds } from '../points/commits.ts'
import { isExpired } from '../points/expired.ts'
import type { RepositoryState } from '../repository-state.ts'

/** Points that were committed and do not count any more, or can't be read, though nobody removed them: no prune goes past one. */
export async function lostPoints(state: RepositoryState, signal: AbortSignal): Promise<string[]> {
  // Before the commits: a receipt is written after its commit.
  const lost = await receiptIds(state, signal)
  const damaged: string[] = []
  const commits = await readCommits(state, { signal, damaged: (name) => void damaged.push(lastComponent(name)) })
  for (const { point } of commits) lost.delete(point.id)
  for (const id of damaged) lost.add(id)
  for (const id of lost) if (await isExpired(state, id, signal)) lost.delete(id)
  return [...lost].sort()
}

/** Records that they are given up, as for a point that retention removes. Resolves with those that are; a held one is not. */
export async function giveUpLostPoints(state: RepositoryState, signal: AbortSignal): Promise<string[]> {
  const given: string[] = []
  for (const id of await lostPoints(state, signal)) {
    const outcome = await expirePoint(state, { id, reason: 'it was lost, and its loss was accepted' }, signal)
    if (outcome !== 'held') given.push(id)
  }
  return given
}
