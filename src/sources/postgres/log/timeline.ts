import { RegainError } from '../../../errors.ts'
import { type Lsn, parseLsn } from '../protocol/lsn.ts'
import { historyName } from './wal.ts'

/** One line of a history file: `timeline` was followed until `end`, where the next one begins. */
export interface TimelineSwitch {
  timeline: number
  end: Lsn
}

/** The way to a timeline: its ancestors, oldest first, each with the position at which it was left. */
export interface TimelineHistory {
  timeline: number
  ancestors: TimelineSwitch[]
}

/**
 * Parses a history file: lines of `timeline <space> X/X <space> reason`, `#` begins a comment
 * (PostgreSQL, src/backend/access/transam/timeline.c). Rejects with `repository-damaged` what PostgreSQL would refuse.
 */
export function parseHistory(timeline: number, text: string): TimelineHistory {
  const ancestors: TimelineSwitch[] = []
  for (const line of text.split('\n')) {
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) continue
    const match = /^(\d+)\s+([0-9a-f]{1,8}\/[0-9a-f]{1,8})(\s|$)/i.exec(trimmed)
    const previous = ancestors.at(-1)?.timeline ?? 0
    const parent = match ? Number(match[1]) : 0
    if (!match || parent <= previous || parent >= timeline) {
      throw new RegainError(
        'repository-damaged',
        `The history file ${historyName(timeline)} does not read as one: "${trimmed.slice(0, 80)}".`,
      )
    }
    ancestors.push({ timeline: parent, end: parseLsn(match[2] ?? '') })
  }
  return { timeline, ancestors }
}

/** The history of a timeline that has no file: it has no ancestors that are known. */
export function rootHistory(timeline: number): TimelineHistory {
  return { timeline, ancestors: [] }
}

/** Where `history` left `timeline`; null while it is still on it; undefined if it never was on it. */
export function leftAt(history: TimelineHistory, timeline: number): Lsn | null | undefined {
  if (timeline === history.timeline) return null
  return history.ancestors.find((ancestor) => ancestor.timeline === timeline)?.end
}

/** Whether position `lsn` of `timeline` lies on the way to `history.timeline`. */
export function passesThrough(history: TimelineHistory, timeline: number, lsn: Lsn): boolean {
  const left = leftAt(history, timeline)
  return left === null || (left !== undefined && lsn <= left)
}

/** Where two ways part: up to there they have the same log. Null: one way is the other. */
export function partingOf(a: TimelineHistory, b: TimelineHistory): Lsn | null {
  const [left, right] = [a, b].map((way) => [...way.ancestors, { timeline: way.timeline, end: null }])
  for (const [i, one] of left!.entries()) {
    const other = right![i]
    if (other?.timeline !== one.timeline) return left![i - 1]?.end ?? 0n
    if (one.end === other.end) continue
    return one.end === null || (other.end !== null && other.end < one.end) ? other.end : one.end
  }
  return null
}

/** The timeline which `history` was on for bytes from `lsn` on. */
export function timelineAt(history: TimelineHistory, lsn: Lsn): number {
  for (const ancestor of history.ancestors) if (lsn < ancestor.end) return ancestor.timeline
  return history.timeline
}
