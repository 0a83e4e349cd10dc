import { z } from 'zod'
import { parseByteCount } from './byte-count.ts'
import { parseDuration } from './duration.ts'
import { endpointProblem } from './endpoint.ts'

/** Single values of regain.yaml that several of its parts have. */

export const text = z.string().min(1, { error: 'must not be empty' })

const NOT_A_DURATION = 'is not a duration: write 30s, 15m, 2h, 90d or 1h30m'
export const duration = z
  .string({ error: NOT_A_DURATION })
  .refine((value) => parseDuration(value) !== null, { error: NOT_A_DURATION })
  .meta({ pattern: '^([0-9]+(ms|s|m|h|d|w))+$' })

const NOT_A_SLOT_LIMIT = 'is neither a size (write 500MB, 20GB) nor auto nor never'
export const slotLimit = z
  .string({ error: NOT_A_SLOT_LIMIT })
  .refine((value) => value === 'auto' || value === 'never' || parseByteCount(value) !== null, {
    error: NOT_A_SLOT_LIMIT,
  })
  .meta({ pattern: '^(auto|never|[1-9][0-9]*(KB|MB|GB))$' })

const NOT_A_RATE = 'is not a rate: write 500KB, 20MB or 1GB, for so many bytes a second'
export const rate = z
  .string({ error: NOT_A_RATE })
  .refine((value) => parseByteCount(value) !== null, { error: NOT_A_RATE })
  .meta({ pattern: '^[1-9][0-9]*(KB|MB|GB)$' })

export const endpoint = z
  .string()
  .refine((value) => endpointProblem(value) !== 'not a URL', { error: 'is not a URL: write https://HOST:PORT' })
  .refine((value) => endpointProblem(value) !== 'clear text', {
    error: 'would send credentials and data in clear text: use https. http is only for this machine itself (127.0.0.1)',
  })
