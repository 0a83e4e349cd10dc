import type { Ambient } from '../model.ts'
import type { Storage } from './contract.ts'
import { type Limits, withLimits } from './limit.ts'
import { withRetries } from './retry.ts'

/**
 * What every store behind a network is wrapped in. The limits are inside, so that what is repeated is counted again.
 */
export function remoteStorage(
  driver: Storage,
  options: { limits: Limits; ambient: Pick<Ambient, 'randomBytes' | 'log'> },
): Storage {
  return withRetries(withLimits(driver, options.limits), options.ambient)
}
