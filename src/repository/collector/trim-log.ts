import { isRegainError } from '../../errors.ts'
import type { LogRange } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { tidy } from '../cleanup.ts'
import { PREFIX, trimPrefix } from '../format/object-names.ts'
import { openRecord, sealRecord, type TrimRecord } from '../format/records.ts'
import { requireCurrentEpoch } from '../keys/epochs.ts'
import { mayStillRemove } from '../points/liveness.ts'
import { deleteUnlessLocked } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'

const DELETES_AT_ONCE = 8
const READ_ATTEMPTS = 5

export interface LogObject {
  name: string
  size: number
  isSegment: boolean
}

/** Segments and tails of the ranges, oldest first. */
export async function logObjectsIn(state: RepositoryState, range: LogRange, signal: AbortSignal): Promise<LogObject[]> {
  const found: LogObject[] = []
  for (const kind of ['segments', 'tails']) {
    const prefix = `${PREFIX.log}${range.source}/${kind}/${range.branch}/`
    for await (const { name, size } of state.storage.list(prefix, { signal })) {
      const segment = name.slice(prefix.length).split('/')[0] as string
      if (segment >= range.from && segment < range.to) found.push({ name, size, isSegment: kind === 'segments' })
    }
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * Removal of log on purpose (model/log.pml). Its record is made durable, **then** comes a look at who might need the log (`why`:
 * sessions, then points), **then** the log is listed and goes, oldest first, **then** the record says that this is over. A copy of a
 * point from another repository makes its session, **then** looks at the records, **then** brings the log that is not there. So
 * either its session is seen here, or it sees this record: and does not count on log that may still be removed.
 *
 * Resolves with what is gone, or with why nothing is.
 */
export async function trimLog(
  state: RepositoryState,
  source: string,
  ranges: readonly LogRange[],
  why: () => Promise<string | null>,
  signal: AbortSignal,
): Promise<LogObject[] | string> {
  const listed = () => mapBounded(ranges, 1, (range) => logObjectsIn(state, range, signal))
  if ((await listed()).flat().length === 0) return []
  const trim = ranges.map(({ branch, from, to }) => ({ branch, from, to }))
  const startedAt = new Date(state.ambient.now()).toISOString()
  const name = await recordTrim(state, source, { ranges: trim, startedAt }, signal)
  const reason = await why().catch(async (error: unknown) => {
    await settle(state, () => state.storage.delete(name))
    throw error
  })
  if (reason !== null) {
    await state.storage.delete(name, { signal })
    return reason
  }
  const gone: LogObject[] = []
  // What is locked stays for a later prune, which is asked to remove the same range again. If a call fails, the record stays as it
  // is, for what was asked for may still be carried out.
  await mapBounded((await listed()).flat(), DELETES_AT_ONCE, async (object) => {
    if (await deleteUnlessLocked(state, object.name, signal)) gone.push(object)
  })
  await finishTrim(state, source, name, trim, signal)
  return gone
}

/** One record of all that is over, durable before those that it covers go. */
async function finishTrim(
  state: RepositoryState,
  source: string,
  name: string,
  ranges: TrimRecord['ranges'],
  signal: AbortSignal,
): Promise<void> {
  const call = { signal }
  const over = [...(await readTrims(state, source, signal))].filter(([, trim]) => !isRemoving(state, trim))
  await recordTrim(
    state,
    source,
    { ranges: joinRanges([...over.flatMap(([, trim]) => trim.ranges), ...ranges]) },
    signal,
  )
  for (const [before] of over) await state.storage.delete(before, call)
  await state.storage.delete(name, call)
}

/** Whether what its maker asked for may still be removed. */
export function isRemoving(state: RepositoryState, { startedAt }: TrimRecord): boolean {
  return startedAt !== undefined && mayStillRemove(state.ambient, startedAt)
}

async function recordTrim(
  state: RepositoryState,
  source: string,
  trim: TrimRecord,
  signal: AbortSignal,
): Promise<string> {
  const name = `${trimPrefix(source)}${state.ambient.randomBytes(16).toString('hex')}`
  const sealed = sealRecord(state.keys, 'T', name, trim, state.ambient.randomBytes(32))
  await state.storage.create(name, sealed, { fromReserve: true, signal })
  await requireCurrentEpoch(state, signal)
  return name
}

/** After a failure, which is what a person must hear of: a record that is left behind says less than it could, and no harm. */
async function settle(state: RepositoryState, act: () => Promise<void>): Promise<void> {
  try {
    await tidy(act)
  } catch (error) {
    if (!isRegainError(error)) throw error
    state.ambient.log('warning', `The record of removed log was not settled: ${error.message}`)
  }
}

/** By name. One that goes while it is read was replaced by one that covers it, so they are listed again. */
export async function readTrims(
  state: RepositoryState,
  source: string,
  signal?: AbortSignal,
): Promise<Map<string, TrimRecord>> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readTrimsOnce(state, source, signal)
    } catch (error) {
      if (!isRegainError(error, 'storage-not-found') || attempt === READ_ATTEMPTS) throw error
    }
  }
}

async function readTrimsOnce(
  state: RepositoryState,
  source: string,
  signal?: AbortSignal,
): Promise<Map<string, TrimRecord>> {
  const call = signal ? { signal } : {}
  const names: string[] = []
  for await (const { name } of state.storage.list(trimPrefix(source), call)) names.push(name)
  const trims = new Map<string, TrimRecord>()
  for (const name of names)
    trims.set(name, openRecord(state.keys, 'T', name, await state.storage.get(name, undefined, call)))
  return trims
}

/** The same names in as few ranges as possible. */
export function joinRanges(ranges: TrimRecord['ranges']): TrimRecord['ranges'] {
  const sorted = [...ranges].sort((a, b) => (a.branch === b.branch ? order(a.from, b.from) : order(a.branch, b.branch)))
  const joined: TrimRecord['ranges'] = []
  for (const range of sorted) {
    const last = joined.at(-1)
    if (last?.branch !== range.branch || last.to < range.from) joined.push({ ...range })
    else if (range.to > last.to) last.to = range.to
  }
  return joined
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
