import { isRegainError } from '../../errors.ts'
import type { LogRange } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { requireCurrentEpoch } from '../epochs.ts'
import { PREFIX, trimPrefix } from '../format/object-names.ts'
import { openRecord, sealRecord, type TrimRecord } from '../format/records.ts'
import { deleteUnlessLocked } from '../locks.ts'
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
 * Removes log on purpose. Order: a trim record that covers these ranges and all recorded before (durable), the older
 * records, then the log, oldest first. So whatever is missing at any moment, a record says that it was meant.
 */
export async function trimLog(
  state: RepositoryState,
  source: string,
  ranges: readonly LogRange[],
  signal: AbortSignal,
): Promise<LogObject[]> {
  const objects = (await mapBounded(ranges, 1, (range) => logObjectsIn(state, range, signal))).flat()
  if (objects.length === 0) return []
  await recordTrim(state, source, ranges, signal)
  const gone: LogObject[] = []
  // What is locked stays for a later prune, which is asked to remove the same range again.
  await mapBounded(objects, DELETES_AT_ONCE, async (object) => {
    if (await deleteUnlessLocked(state, object.name, signal)) gone.push(object)
  })
  return gone
}

async function recordTrim(
  state: RepositoryState,
  source: string,
  ranges: readonly LogRange[],
  signal: AbortSignal,
): Promise<void> {
  const older = await readTrims(state, source, signal)
  const known = [...older.values()].flatMap((trim) => trim.ranges)
  const union = joinRanges([...known, ...ranges.map(({ branch, from, to }) => ({ branch, from, to }))])
  const name = `${trimPrefix(source)}${state.ambient.randomBytes(16).toString('hex')}`
  const sealed = sealRecord(state.keys, 'T', name, { ranges: union }, state.ambient.randomBytes(32))
  await state.storage.create(name, sealed, { signal, fromReserve: true })
  await requireCurrentEpoch(state, signal)
  for (const before of older.keys()) await state.storage.delete(before, { signal })
}

/** By name. One that goes while it is read was replaced by one that covers it, so they are listed again. */
export async function readTrims(
  state: RepositoryState,
  source: string,
  signal: AbortSignal,
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
  signal: AbortSignal,
): Promise<Map<string, TrimRecord>> {
  const names: string[] = []
  for await (const { name } of state.storage.list(trimPrefix(source), { signal })) names.push(name)
  const trims = new Map<string, TrimRecord>()
  for (const name of names)
    trims.set(name, openRecord(state.keys, 'T', name, await state.storage.get(name, undefined, { signal })))
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
