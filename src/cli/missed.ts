import type { Missed } from '../model.ts'
import { count } from './format.ts'
import type { Output } from './output.ts'

const SHOWN = 20

/** Names what is missing, one line each; the rest is counted. Incomplete is never a detail, so --quiet shows it too. */
export function tellMissed(output: Output, missed: readonly Missed[], total: number, where: string): void {
  if (total === 0) return
  output.warn(`INCOMPLETE: ${count(total, 'thing')} missing from ${where}:`)
  for (const { path, reason, detail } of missed.slice(0, SHOWN)) output.warn(`  ${path || '.'}: ${reason}: ${detail}`)
  if (total > SHOWN) output.warn(`  … and ${(total - SHOWN).toLocaleString('en-US')} more, listed with --json`)
}
