import { isRegainError, RegainError } from '../../errors.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import { openRecord, type PinRecord } from '../format/records.ts'
import { type Ends, readCommit, readEnds, receiptIds } from '../points/commits.ts'
import { expiredNames, isExpired } from '../points/expired.ts'
import { isPinGone } from '../points/liveness.ts'
import type { RepositoryState } from '../repository-state.ts'

/** What must stay readable. */
export interface Root {
  /** Of the point. */
  id: string
  listing: string
}

export interface Roots {
  roots: Root[]
  ends: Ends
  pins: PinRecord[]
}

/**
 * The points that count, **then** the readers' pins (a reader pins before it looks whether its point still counts, so one
 * of the two looks sees it). Fails closed on a point or pin that can't be read, and on one that was committed and is gone without
 * a record of its expiry: a mark that does not know of it would have its data removed. `except`: points taken for expired.
 */
export async function readRoots(
  state: RepositoryState,
  options: { except?: ReadonlySet<string>; signal: AbortSignal },
): Promise<Roots> {
  const { signal, except } = options
  // Before the commits: a receipt is written after its commit, so one without a commit tells of a lost point.
  const receipts = await receiptIds(state, signal)
  const damaged = (name: string, error: RegainError) => {
    if (!except?.has(lastComponent(name))) throw error
  }
  const ends = await readEnds(state, { signal, damaged })
  const pins = await readPins(state, signal)
  await assertNoneLost(state, receipts, ends, options)
  const listings = new Map<string, string>()
  for (const { point } of ends.commits) if (!except?.has(point.id)) listings.set(point.id, point.listing)
  for (const pin of pins) {
    if (isPinGone(state.ambient, pin)) continue
    // Without an end the pin came after that was removed (expire.ts looks at pins before), and its reader will see so.
    const commit = await readCommit(state, pin.point, signal)
    if (commit) listings.set(pin.point, commit.point.listing)
  }
  return { roots: [...listings].map(([id, listing]) => ({ id, listing })), ends, pins }
}

export async function readPins(state: RepositoryState, signal: AbortSignal): Promise<PinRecord[]> {
  const pins: PinRecord[] = []
  for await (const { name } of state.storage.list(PREFIX.pins, { signal }))
    try {
      pins.push(openRecord(state.keys, 'N', name, await state.storage.get(name, undefined, { signal })))
    } catch (error) {
      // Its reader is done.
      if (!isRegainError(error, 'storage-not-found')) throw error
    }
  return pins
}

async function assertNoneLost(
  state: RepositoryState,
  receipts: ReadonlySet<string>,
  ends: Ends,
  { except, signal }: { except?: ReadonlySet<string>; signal: AbortSignal },
): Promise<void> {
  const known = new Set(ends.commits.map(({ point }) => point.id))
  const lost: string[] = []
  for (const id of receipts)
    if (!known.has(id) && !except?.has(id) && !(await isExpired(state, id, signal))) lost.push(id)
  if (lost.length === 0) return
  throw new RegainError(
    'repository-damaged',
    `${lost.length} recovery points were committed and are gone without having been removed by Regain: ${lost.slice(0, 5).join(', ')}. Nothing was removed, so that what is left of them can still be rescued.`,
  )
}

/**
 * Whether there is a point, or word of one that was removed. Where there is neither, but packs, their points may be lost, or
 * still to come from another store: a mark without roots is no reason to remove everything. First backups that failed look alike.
 */
export async function hasHistory(state: RepositoryState, { ends }: Roots, signal: AbortSignal): Promise<boolean> {
  return ends.commits.length > 0 || (await expiredNames(state, signal)).size > 0
}
