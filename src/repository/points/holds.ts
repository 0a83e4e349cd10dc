import { isRegainError, RegainError } from '../../errors.ts'
import { mapBounded } from '../bounded.ts'
import { holdName, PREFIX } from '../format/object-names.ts'
import { type HoldRecord, openRecord, sealRecord } from '../format/records.ts'
import type { RepositoryState } from '../repository-state.ts'
import { counts } from './commits.ts'
import { mayStillExpire, readExpired } from './expired.ts'

/**
 * Holds: `holds/S` keeps point S from being removed. No lock decides between a hold and an expiry, but the order of their
 * steps: a hold is made durable, and only then are records of an expiry looked for; an expiry makes its record durable, and only
 * then looks for a hold, before it deletes anything. So one of the two sees the other, and a hold that was granted is never
 * overlooked. Who is refused leaves the hold where it is: another may have been granted it. (model/records.pml)
 */
const READS_AT_ONCE = 16

/**
 * When this resolves, no removal touches the point until the hold is released. False: it had a hold already, which stays as it
 * is. Rejects with `point-not-found` if the point does not count, and with `precondition-failed` if it is just being removed, or
 * not: then the hold is noted, and asking again tells.
 */
export async function holdPoint(state: RepositoryState, id: string, reason: string): Promise<boolean> {
  const name = holdName(id)
  const record: HoldRecord = { point: id, reason, heldAt: new Date(state.ambient.now()).toISOString() }
  const sealed = sealRecord(state.keys, 'D', name, record, state.ambient.randomBytes(32))
  const isNew = await state.storage.create(name, sealed, { fromReserve: true })
  const isExpiring = await isAnyExpiryAtWork(state, id)
  if (!(await counts(state, id))) {
    await state.storage.delete(name)
    throw new RegainError('point-not-found', `The recovery point ${id} was removed, or never was.`)
  }
  if (!isExpiring) return isNew
  throw new RegainError(
    'precondition-failed',
    `The recovery point ${id} is just being removed by a prune, or was about to be.`,
    {
      hint: 'The hold is noted, and keeps the point if it came in time. Hold the point again to learn whether: it is said for certain once that prune has ended, or seven days after it was cut short.',
    },
  )
}

/** One that is over and removed nothing is none: a prune completes it, if nobody holds the point, or takes its record back. */
async function isAnyExpiryAtWork(state: RepositoryState, id: string): Promise<boolean> {
  for (const record of (await readExpired(state, id)).values()) if (mayStillExpire(state, record)) return true
  return false
}

/** False: there was none. */
export async function releasePoint(state: RepositoryState, id: string): Promise<boolean> {
  if (!(await isHeld(state, id))) return false
  await state.storage.delete(holdName(id))
  return true
}

export async function isHeld(state: RepositoryState, id: string, signal?: AbortSignal): Promise<boolean> {
  return (await state.storage.size(holdName(id), signal ? { signal } : {})) !== null
}

/** By id of the point. One that cannot be read holds all the same: its reason then says so. */
export async function readHolds(state: RepositoryState): Promise<Map<string, HoldRecord>> {
  const names: string[] = []
  for await (const { name } of state.storage.list(PREFIX.holds)) names.push(name)
  const holds = await mapBounded(names, READS_AT_ONCE, (name) => readHold(state, name))
  return new Map(holds.filter((hold) => hold !== null).map((hold) => [hold.point, hold]))
}

/** Null: released meanwhile. */
async function readHold(state: RepositoryState, name: string): Promise<HoldRecord | null> {
  try {
    return openRecord(state.keys, 'D', name, await state.storage.get(name))
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    if (!isRegainError(error, 'repository-damaged')) throw error
    return { point: name.slice(PREFIX.holds.length), reason: 'its record cannot be read', heldAt: '' }
  }
}
