import type { LogRules } from '../policy/log-retention.ts'
import type { RetentionRules } from '../policy/retention.ts'
import { parseDuration } from './duration.ts'
import type { WrittenRetention } from './schema.ts'

/** Rules by name, for those who need not think about numbers. */
export const RETENTION_PRESETS = {
  standard: { daily: 30, weekly: 12, monthly: 12, yearly: 7 },
  compact: { daily: 7, weekly: 4, monthly: 12 },
  critical: { within: '30d' },
  secondary: { within: '7d' },
} as const

/** Nothing is ever removed. It must be written, so that nobody fills a disk without having said so. */
export const KEEP_ALL = 'keep-all'

/** What is kept of one source: points, and how much of its log. */
export type Retention = RetentionRules & LogRules

/** Null: it would keep nothing of what gets older. */
export function retentionOf(written: WrittenRetention, timeZone: string): Retention | null {
  if (written === KEEP_ALL) return { all: true, timeZone }
  const { within, log, ...counts } = (typeof written === 'string' ? RETENTION_PRESETS[written] : written) as Exclude<
    WrittenRetention,
    string
  >
  const { labels: _, ...rules } = counts
  if (within === undefined && Object.values(rules).every((rule) => rule === undefined)) return null
  return {
    timeZone,
    ...counts,
    ...(within === undefined ? {} : { withinMs: parseDuration(within)! }),
    ...(log === undefined ? {} : { log: log === 'all' ? log : parseDuration(log)! }),
  }
}
