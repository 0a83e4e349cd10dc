import type { RepositoryState } from '../repository-state.ts'

export async function mergeIndex(_state: RepositoryState, _signal: AbortSignal): Promise<void> {}
