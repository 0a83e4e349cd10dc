import { PREFIX } from '../format/object-names.ts'
import { readCommits } from '../points/commits.ts'
import type { RepositoryState } from '../repository-state.ts'

/** docs/format.md, Log: the history that says whose log it is. */
export const OWNER_HISTORY = 'system'

/**
 * Whether a log whose `system` can't be read any more is that of this system, as points of its source say, which name it too. Where
 * none does, only a log that holds nothing yet is.
 */
export async function isOwner(state: RepositoryState, source: string, bytes: Buffer): Promise<boolean> {
  const commits = await readCommits(state, { damaged: () => undefined })
  const owners = commits
    .filter(({ point }) => point.source === source && typeof point.positions.systemId === 'string')
    .map(({ point }) => `${point.positions.systemId}\n`)
  if (owners.length > 0) return owners.every((owner) => bytes.equals(Buffer.from(owner)))
  for await (const _ of state.storage.list(`${PREFIX.log}${source}/segments/`)) return false
  return true
}
