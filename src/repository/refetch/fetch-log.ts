import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { Repository, SourceLog } from '../api.ts'
import { PREFIX } from '../format/object-names.ts'
import { OWNER_HISTORY } from '../log/log-owner.ts'
import { sourceLog } from '../log/log-store.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'
import { lossAsNull } from './donors.ts'

/** log/SOURCE/histories/NAME, log/SOURCE/segments/BRANCH/NAME or log/SOURCE/tails/BRANCH/NAME/OFFSET. */
export interface LogObject {
  object: string
  source: string
  kind: string
  branch: string
  name: string
}

/** Null: not what `fetchLogObject` knows how to bring back. */
export function parseLogObject(object: string): LogObject | null {
  const [log, source, kind, ...rest] = object.split('/')
  if (log !== 'log' || source === undefined) return null
  if (kind === 'histories') return { object, source, kind, branch: '', name: rest[0] as string }
  if (kind !== 'segments' && kind !== 'tails') return null
  return { object, source, kind, branch: rest[0] as string, name: rest[1] as string }
}

/** What of these the other repository has, as far as its listing tells. */
export async function availableThere(objects: readonly LogObject[], from: Repository): Promise<LogObject[]> {
  const found: LogObject[] = []
  for (const source of new Set(objects.map((one) => one.source))) {
    const { segments, histories } = await from.log(source).list()
    const names = new Set([
      ...segments.map(({ branch, name }) => `${branch}/${name}`),
      ...histories.map((name) => `/${name}`),
    ])
    found.push(...objects.filter((one) => one.source === source && names.has(`${one.branch}/${one.name}`)))
  }
  return found
}

/**
 * Brings back what is lost or damaged of a log, and what only shows then to be lost before it; nothing that can be read is replaced.
 * Resolves with the objects that are back, and with those that showed to be lost and are not.
 */
export async function fetchLog(
  state: RepositoryState,
  objects: readonly LogObject[],
  from: Repository,
  signal: AbortSignal,
): Promise<{ back: Set<string>; alsoLost: Set<string> }> {
  const back = new Set<string>()
  const alsoLost = new Set<string>()
  for (const source of new Set(objects.map((one) => one.source))) {
    const [here, there] = [sourceLog(state, source), from.log(source)]
    if (!(await isSameHistory(here, there))) {
      state.ambient.log(
        'warning',
        `${from.location} holds the log of another server than this one for ${source}: nothing was taken from it.`,
      )
      continue
    }
    // Where nothing tells what was removed on purpose, nothing is brought that was not asked for.
    const trimmed = await lossAsNull(() => here.trimmed(signal))
    const isTrimmed = ({ branch, name }: LogObject) =>
      trimmed?.some((range) => range.branch === branch && range.from <= name && name < range.to) ?? true
    const held = new Set((await here.list()).segments.map(({ branch, name }) => `${branch}/${name}`))
    const wanted = objects.filter((object) => object.source === source)
    for (let one = wanted.shift(); one; one = wanted.shift()) {
      throwIfInterrupted(signal)
      if (back.has(one.object)) continue
      const fetched = await fetchLogObject(here, there, one, held)
      if (!fetched) continue
      back.add(one.object)
      if (fetched.before === null || isTrimmed(fetched.before)) continue
      alsoLost.add(fetched.before.object)
      wanted.unshift(fetched.before)
    }
  }
  for (const object of back) alsoLost.delete(object)
  return { back, alsoLost }
}

/** One that can't be read, or is not there, contradicts nobody. */
async function isSameHistory(here: SourceLog, there: SourceLog): Promise<boolean> {
  const [own, other] = [
    await lossAsNull(() => here.readHistory(OWNER_HISTORY)),
    await lossAsNull(() => there.readHistory(OWNER_HISTORY)),
  ]
  return own === null || other === null || own.equals(other)
}

/** Null: it is not back. `before`: the segment before it, if that is not here, which nothing here told any more. */
async function fetchLogObject(
  here: SourceLog,
  there: SourceLog,
  { source, kind, branch, name }: LogObject,
  held: Set<string>,
): Promise<{ before: LogObject | null } | null> {
  try {
    if (kind === 'histories') {
      const bytes = await lossAsNull(() => there.readHistory(name))
      if (bytes) await here.putHistory(name, bytes)
      return bytes && { before: null }
    }
    const piece = await lossAsNull(() => there.read(branch, name))
    // An unfinished piece is its follower's business, which goes on where what is readable ends.
    if (!piece?.whole) return null
    const { until, follows } = piece.meta
    const isHeld = follows !== undefined && held.has(`${branch}/${follows}`)
    // The piece that was here said so too, if it was: it must not be forgotten with it, whether or not it can be fetched.
    const isLost = follows !== undefined && !isHeld && isAfterOldest(held, branch, follows)
    await here.putSegment(branch, name, piece.bytes, { until, ...(isHeld || isLost ? { follows } : {}) })
    held.add(`${branch}/${name}`)
    await here.dropTails(branch, name)
    return { before: isLost ? segment(source, branch, follows) : null }
  } catch (error) {
    // Of another server, as it seems; or nothing here tells whose it was.
    if (isRegainError(error, 'log-conflict') || isDamage(error)) return null
    throw error
  }
}

/** What lies before all that is held was removed on purpose, or never stored here. */
function isAfterOldest(held: ReadonlySet<string>, branch: string, name: string): boolean {
  for (const other of held) if (other.startsWith(`${branch}/`) && other < `${branch}/${name}`) return true
  return false
}

function segment(source: string, branch: string, name: string): LogObject {
  return { object: `${PREFIX.log}${source}/segments/${branch}/${name}`, source, kind: 'segments', branch, name }
}
