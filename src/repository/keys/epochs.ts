import { isRegainError, RegainError } from '../../errors.ts'
import { FIRST_EPOCH } from '../format/domain-keys.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import { HEADER_BYTES, headerEpoch } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'
import { hasSuccessor } from './key-objects.ts'
import { notOpened } from './keyring.ts'

/**
 * Rejects with `key-replaced` if a new key epoch has begun since this repository was opened. Whoever writes something that
 * lasts calls this **after** it has written and before it tells anybody: then either the rekey, which looks for what is
 * left of the old epoch after the new one has begun, sees what was written, or the writer sees the new epoch.
 */
export async function requireCurrentEpoch(state: RepositoryState, signal?: AbortSignal): Promise<void> {
  const { domain, keys, unopened } = state.keyring
  if (unopened !== null)
    throw new RegainError('key-replaced', `${notOpened(unopened)} Nothing counts that was written now.`)
  if (!(await hasSuccessor(state.storage, { domain, epoch: keys.epoch }, signal ? { signal } : {}))) return
  throw new RegainError(
    'key-replaced',
    'The repository got a new data key (rekey) after it was opened here. Nothing that was durable before is affected.',
  )
}

/** The epoch in an object's header; null if it is gone, or has no header. */
export async function epochOf(state: RepositoryState, name: string, signal?: AbortSignal): Promise<number | null> {
  try {
    return headerEpoch(await state.storage.get(name, { offset: 0, length: HEADER_BYTES }, signal ? { signal } : {}))
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    throw error
  }
}

/** Whether a rekey is under way, so that things of an older epoch may be about. */
export function isRekeying({ keyring }: RepositoryState): boolean {
  return keyring.oldest < keyring.keys.epoch
}

/**
 * Readers and writers that opened the repository before the current epoch began: they hold no key of it, so what they read
 * must stay. Sessions that have ended are none.
 */
export async function oldUsers(state: RepositoryState, signal: AbortSignal): Promise<string[]> {
  const sessions: string[] = []
  for await (const { name } of state.storage.list(PREFIX.sessions, { signal })) sessions.push(lastComponent(name))
  const ended = new Set<string>()
  for await (const { name } of state.storage.list(PREFIX.ends, { signal })) ended.add(lastComponent(name))
  const names = sessions.filter((id) => !ended.has(id)).map((id) => `${PREFIX.sessions}${id}`)
  for await (const { name } of state.storage.list(PREFIX.pins, { signal })) names.push(name)
  const old: string[] = []
  for (const name of names) {
    const epoch = await epochOf(state, name, signal)
    if (epoch !== null && epoch < state.keys.epoch) old.push(name)
  }
  return old
}

/** Of a session that ended in an epoch that is over nothing can be read, and nothing need be. */
export async function isEndedLongAgo(state: RepositoryState, name: string, signal: AbortSignal): Promise<boolean> {
  const epoch = await epochOf(state, name, signal)
  const end = `${PREFIX.ends}${lastComponent(name)}`
  const isOver = epoch !== null && epoch >= FIRST_EPOCH && epoch < state.keyring.oldest
  return isOver && (await state.storage.size(end, { signal })) !== null
}

/** Of a log's tail, by its last component: OFFSET in the first epoch, OFFSET-EPOCH in later ones. */
export function tailPlace(component: string): { offset: number; epoch: number } {
  const [offset, epoch] = component.split('-')
  return { offset: Number(offset), epoch: epoch === undefined ? FIRST_EPOCH : Number(epoch) }
}

/** Left by a writer that slept through a rekey: what it held is in a later epoch's tail, or was never told durable. */
export function isLeftOverTail({ keyring }: RepositoryState, name: string): boolean {
  return name.includes('/tails/') && tailPlace(lastComponent(name)).epoch < keyring.oldest
}

export function tailComponent({ offset, epoch }: { offset: number; epoch: number }): string {
  const digits = String(offset).padStart(10, '0')
  return epoch === FIRST_EPOCH ? digits : `${digits}-${epoch}`
}
