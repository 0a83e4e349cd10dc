import type { Ambient } from '../model.ts'
import { withCache } from './cache.ts'
import type { Storage } from './contract.ts'
import { type Limits, withLimits } from './limit.ts'
import { withRetries } from './retry.ts'

/**
 * What every store behind a network is wrapped in. The limits are inside, so that what is repeated is counted again.
 * `cacheDirectory`: where copies are kept of what was read; null: nowhere.
 */
export function remoteStorage(
  driver: Storage,
  options: { limits: Limits; ambient: Pick<Ambient, 'now' | 'randomBytes' | 'log'>; cacheDirectory: string | null },
): Storage {
  const { ambient, cacheDirectory } = options
  const storage = withRetries(withLimits(driver, options.limits), ambient)
  return cacheDirectory === null ? storage : withCache(storage, { directory: cacheDirectory, ambient })
}
