import { RegainError } from '../../errors.ts'
import type { PrunePlan, PruneReport } from '../api.ts'
import type { RepositoryState } from '../repository-state.ts'

export async function prune(
  _state: RepositoryState,
  _plan: PrunePlan,
  _options: { signal: AbortSignal },
): Promise<PruneReport> {
  throw new RegainError('usage', 'Removal is not available in this version.')
}
