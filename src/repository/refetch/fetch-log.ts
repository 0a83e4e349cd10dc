import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { Repository, SourceLog } from '../api.ts'
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

/** Brings back what is lost or damaged of a log; nothing that can be read is replaced. Resolves with the objects that are back. */
export async function fetchLog(
  state: RepositoryState,
  objects: readonly LogObject[],
  from: Repository,
  signal: AbortSignal,
): Promise<Set<string>> {
  const back = new Set<string>()
  for (const source of new Set(objects.map((one) => one.source))) {
    const [here, there] = [sourceLog(state, source), from.log(source)]
    if (!(await isSameHistory(here, there))) {
      state.ambient.log(
        'warning',
        `${from.location} holds the log of another server than this one for ${source}: nothing was taken from it.`,
      )
      continue
    }
    const held = new Set((await here.list()).segments.map(({ branch, name }) => `${branch}/${name}`))
    for (const one of objects.filter((object) => object.source === source)) {
      throwIfInterrupted(signal)
      if (await fetchLogObject(here, there, one, held)) back.add(one.object)
    }
  }
  return back
}

/** One that can't be read, or is not there, contradicts nobody. */
async function isSameHistory(here: SourceLog, there: SourceLog): Promise<boolean> {
  const [own, other] = [
    await lossAsNull(() => here.readHistory(OWNER_HISTORY)),
    await lossAsNull(() => there.readHistory(OWNER_HISTORY)),
  ]
  return own === null || other === null || own.equals(other)
}

async function fetchLogObject(
  here: SourceLog,
  there: SourceLog,
  { kind, branch, name }: LogObject,
  held: ReadonlySet<string>,
): Promise<boolean> {
  try {
    if (kind === 'histories') {
      const bytes = await lossAsNull(() => there.readHistory(name))
      if (bytes) await here.putHistory(name, bytes)
      return bytes !== null
    }
    const piece = await lossAsNull(() => there.read(branch, name))
    // An unfinished piece is its follower's business, which goes on where what is readable ends.
    if (!piece?.whole) return false
    const { until, follows } = piece.meta
    const isHeld = follows !== undefined && held.has(`${branch}/${follows}`)
    await here.putSegment(branch, name, piece.bytes, { until, ...(isHeld ? { follows } : {}) })
    await here.dropTails(branch, name)
    return true
  } catch (error) {
    // Of another server, as it seems; or nothing here tells whose it was.
    if (isRegainError(error, 'log-conflict') || isDamage(error)) return false
    throw error
  }
}
