import { isRegainError } from '../../errors.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import { type ExpiredRecord, openRecord } from '../format/records.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { mayStillRemove } from './liveness.ts'

/**
 * `expired/S-R`: point S was removed on purpose, or is about to be by who made this record. Each expiry makes its own and takes
 * back no other: one that finds a hold takes its record back, while another may be past that look (model/records.pml).
 */
const ID_DIGITS = 32

/** Names of all records, by id of the point. */
export async function expiredNames(state: RepositoryState, signal?: AbortSignal): Promise<Map<string, string[]>> {
  const byPoint = new Map<string, string[]>()
  for await (const { name } of state.storage.list(PREFIX.expired, signal ? { signal } : {})) {
    const id = lastComponent(name).slice(0, ID_DIGITS)
    byPoint.set(id, [...(byPoint.get(id) ?? []), name])
  }
  return byPoint
}

/** Of one point, with their names: those that open. A store without the key can't forge one. Rejects if one does not open. */
export async function readExpired(
  state: RepositoryState,
  id: string,
  signal?: AbortSignal,
): Promise<Map<string, ExpiredRecord>> {
  const records = new Map<string, ExpiredRecord>()
  for (const name of (await expiredNames(state, signal)).get(id) ?? []) {
    const record = await readOne(state, name, signal)
    if (record?.session === id) records.set(name, record)
  }
  return records
}

export async function isExpired(state: RepositoryState, id: string, signal?: AbortSignal): Promise<boolean> {
  return (await readExpired(state, id, signal)).size > 0
}

/**
 * Whether its maker is known to be dead, and nothing that it asked for can still be carried out. A clock alone has no say: a record
 * that was taken back from an expiry which lives would be missing when that removes the point, and the point would look lost.
 */
export function isExpiryOver(state: RepositoryState, record: ExpiredRecord): boolean {
  const { process } = record
  return process !== undefined && state.ambient.process?.isAlive(process) === false && !mayStillExpire(state, record)
}

/** For so long a hold waits. */
export function mayStillExpire({ ambient }: RepositoryState, { expiredAt }: ExpiredRecord): boolean {
  return mayStillRemove(ambient, expiredAt)
}

/** Null: taken back, or forgotten, meanwhile. */
async function readOne(state: RepositoryState, name: string, signal?: AbortSignal): Promise<ExpiredRecord | null> {
  try {
    return openRecord(state.keys, 'X', name, await state.storage.get(name, undefined, signal ? { signal } : {}))
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    throw error
  }
}

/** As `readExpired`, of a record that may be of anybody: one that does not open says nothing. */
export async function saysExpired(state: RepositoryState, id: string): Promise<boolean> {
  for (const name of (await expiredNames(state)).get(id) ?? [])
    try {
      if ((await readOne(state, name))?.session === id) return true
    } catch (error) {
      if (!isLoss(error)) throw error
    }
  return false
}
