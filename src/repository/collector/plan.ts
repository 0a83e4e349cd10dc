import { RegainError } from '../../errors.ts'
import type { PrunePlan, PruneRequest } from '../api.ts'
import type { RepositoryState } from '../repository-state.ts'

export async function planPrune(_state: RepositoryState, _request: PruneRequest): Promise<PrunePlan> {
  throw new RegainError('usage', 'Removal is not available in this version.')
}
