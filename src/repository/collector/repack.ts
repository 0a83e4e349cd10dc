import type { PlannedPack } from '../api.ts'
import type { Removal } from './remove-packs.ts'

export async function repackSparse(
  _removal: Removal,
  _planned: readonly PlannedPack[],
): Promise<{ packs: string[]; bytesWritten: number }> {
  return { packs: [], bytesWritten: 0 }
}
