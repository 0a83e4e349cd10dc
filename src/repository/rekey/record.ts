import { isRegainError, RegainError } from '../../errors.ts'
import { authenticateClear, decodeClear, encodeClear, type RepositoryRecord } from '../format/clear.ts'
import type { EpochKeys } from '../format/domain-keys.ts'
import { REPOSITORY } from '../format/object-names.ts'
import type { RepositoryState } from '../repository-state.ts'

/** Writes repository.json anew for the epoch of `keys`, if it is of an older one. False: it is locked, and stays as it is. */
export async function renewRepositoryRecord(state: RepositoryState, keys: EpochKeys): Promise<boolean> {
  const bytes = await state.storage.get(REPOSITORY)
  const record = decodeClear<RepositoryRecord>(bytes, REPOSITORY, 'repository')
  if (record.epoch >= keys.epoch) return true
  const present = state.keys.ring.get(record.epoch)
  if (!present) throw new RegainError('repository-damaged', `${REPOSITORY} is of a key epoch that has ended.`)
  authenticateClear(present, REPOSITORY, bytes, record)
  const { mac: _, ...rest } = record
  try {
    await state.storage.put(REPOSITORY, encodeClear(keys, REPOSITORY, { ...rest, epoch: keys.epoch }))
    return true
  } catch (error) {
    if (isRegainError(error, 'storage-locked')) return false
    throw error
  }
}
