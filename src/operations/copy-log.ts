import { throwIfInterrupted } from '../errors.ts'
import type { SourceLog } from '../repository/api.ts'
import type { Reporting } from './context.ts'

/**
 * Brings what the log of a source misses in another repository there; what was removed there on purpose only with `all`.
 * Returns the segments copied. They go in order, so that a copy which is cut short leaves no gap.
 */
export async function copyLog(from: SourceLog, to: SourceLog, all: boolean, reporting: Reporting): Promise<number> {
  const trimmed = all ? [] : await to.trimmed(reporting.signal)
  const there = await from.list()
  const here = await to.list()
  for (const name of there.histories) {
    if (here.histories.includes(name)) continue
    const bytes = await from.readHistory(name)
    if (bytes !== null) await to.putHistory(name, bytes)
  }
  const held = new Set(here.segments.map(keyOf))
  const isTrimmed = ({ branch, name }: { branch: string; name: string }) =>
    trimmed.some((range) => range.branch === branch && range.from <= name && name < range.to)
  const missing = there.segments.filter((segment) => !held.has(keyOf(segment)) && !isTrimmed(segment))
  let copied = 0
  for (const segment of missing) {
    throwIfInterrupted(reporting.signal)
    if (await copySegment(from, to, segment, held)) {
      copied++
      held.add(keyOf(segment))
    }
    reporting.progress({ phase: 'copying log', bytesDone: 0, filesDone: copied, filesTotal: missing.length })
  }
  for (const { branch, name, available } of there.tails) {
    throwIfInterrupted(reporting.signal)
    const mine = here.tails.find((tail) => tail.branch === branch && tail.name === name)
    if (held.has(keyOf({ branch, name })) || (mine?.available ?? 0) >= available) continue
    const piece = await from.read(branch, name)
    if (piece && !piece.whole) await to.putTail(branch, name, 0, piece.bytes, { until: piece.meta.until })
  }
  return copied
}

/** False: it was removed meanwhile. */
async function copySegment(
  from: SourceLog,
  to: SourceLog,
  { branch, name }: { branch: string; name: string },
  held: ReadonlySet<string>,
): Promise<boolean> {
  const piece = await from.read(branch, name)
  if (piece === null || !piece.whole) return false
  const { until, follows } = piece.meta
  // Only what the other store holds can be missed there.
  const isHeld = follows !== undefined && held.has(keyOf({ branch, name: follows }))
  await to.putSegment(branch, name, piece.bytes, { until, ...(isHeld ? { follows } : {}) })
  await to.dropTails(branch, name)
  return true
}

function keyOf({ branch, name }: { branch: string; name: string }): string {
  return `${branch}/${name}`
}
