import { isRegainError, type RegainError } from '../../errors.ts'

/**
 * Whether an object can't be used as it is. One of an unknown version is damaged as well: repository.json, which is
 * authenticated, says that all of this repository is of format 1.
 */
export function isDamage(error: unknown): error is RegainError {
  return isRegainError(error, 'repository-damaged') || isRegainError(error, 'repository-version')
}

/** Damaged, or not there at all. */
export function isLoss(error: unknown): error is RegainError {
  return isDamage(error) || isRegainError(error, 'storage-not-found')
}
