import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point } from '../model.ts'
import type { SourceLog } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'

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

/**
 * Once the session exists that is to become a copy of `point`: brings the log again that a prune removed since it was first
 * brought. A prune that begins from now on sees the session and leaves the log. One that may be at it still is asked about first;
 * rejects with `precondition-failed` if the point needs what that removes.
 */
export async function copyLogAgain(
  { drivers }: Application,
  point: Point,
  logs: { from: SourceLog; to: SourceLog },
  all: boolean,
  reporting: Reporting,
): Promise<number> {
  const { from, to } = logs
  const removing = await to.removing(reporting.signal)
  if (removing.length > 0) {
    const missing = async (log: SourceLog) => (await drivers.pointGaps(point.sourceType, log, [point])).length
    if ((await missing(without(from, removing))) > (await missing(from)))
      throw new RegainError(
        'precondition-failed',
        `A prune is removing log there that recovery point ${point.id} needs. The point was not copied.`,
        {
          hint: 'Replicate again once that prune has ended. If it died, its host may say so in a prune, or seven days will.',
        },
      )
  }
  return copyLog(from, to, all, reporting)
}

/** The log as if these ranges were gone. */
function without(log: SourceLog, ranges: readonly { branch: string; from: string; to: string }[]): SourceLog {
  const isGone = ({ branch, name }: { branch: string; name: string }) =>
    ranges.some((range) => range.branch === branch && range.from <= name && name < range.to)
  const rest: SourceLog = Object.create(log)
  rest.list = async () => {
    const { segments, tails, histories } = await log.list()
    return { segments: segments.filter((one) => !isGone(one)), tails: tails.filter((one) => !isGone(one)), histories }
  }
  return rest
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
