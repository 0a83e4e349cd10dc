import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import { mapBounded } from '../bounded.ts'
import { PREFIX } from '../format/object-names.ts'
import { openObject, type SealedKind, sealObject } from '../format/sealed.ts'
import { epochOf, tailComponent, tailPlace } from '../keys/epochs.ts'
import { listPacks, readSegment } from '../packs/chunk-index.ts'
import { putIndexSegment } from '../packs/pack-store.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'

const AT_ONCE = 8
/** What points and logs consist of: locked where the store can. */
const KEPT: readonly SealedKind[] = ['E', 'R', 'L', 'H']

export interface Resealing {
  state: RepositoryState
  signal: AbortSignal
  progress(progress: Progress): void
}

export interface Resealed {
  objects: number
  /** Names of objects of older epochs that are as they were, because they are damaged. */
  damaged: string[]
  /** Names of those that are as they were, because the store keeps them immutable. */
  locked: string[]
}

/**
 * Seals what is neither pack, session, pin nor generation under the current epoch: the same plaintext under the same name,
 * so that whoever reads it sees no difference.
 */
export async function resealObjects(work: Resealing): Promise<Resealed> {
  const { state, signal, progress } = work
  const done: Resealed = { objects: 0, damaged: [], locked: [] }
  const names: string[] = []
  for (const prefix of [PREFIX.index, PREFIX.ends, PREFIX.receipts, PREFIX.expired, PREFIX.holds, PREFIX.log])
    for await (const { name } of state.storage.list(prefix, { signal })) names.push(name)
  let looked = 0
  await mapBounded(names, AT_ONCE, async (name) => {
    throwIfInterrupted(signal)
    const epoch = await epochOf(state, name, signal)
    if (epoch !== null && epoch < state.keys.epoch && (await reseal(work, name, done))) done.objects++
    progress({ phase: 'resealing', bytesDone: 0, filesDone: ++looked, filesTotal: names.length })
  })
  return done
}

async function reseal({ state, signal }: Resealing, name: string, done: Resealed): Promise<boolean> {
  try {
    if (name.startsWith(PREFIX.index)) await resealIndex(state, name, signal)
    else if (name.includes('/tails/')) await resealTail(state, name, signal)
    else await resealNamed(state, name, signal)
    return true
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return false
    if (isRegainError(error, 'storage-locked')) done.locked.push(name)
    else if (isDamage(error)) done.damaged.push(name)
    else throw error
    return false
  }
}

/** As merging does: the segment is read, **then** the packs are listed, the new one is put, the old one goes. */
async function resealIndex(state: RepositoryState, name: string, signal: AbortSignal): Promise<void> {
  const packs = await readSegment(state, name, signal)
  const listed = await listPacks(state, signal)
  const there = packs.filter((pack) => listed.has(pack.name.toString('hex')))
  if (there.length > 0) await putIndexSegment(state, there, signal)
  await state.storage.delete(name, { signal })
}

/**
 * What is removed between the two calls comes back: the rest of an expired point or trimmed log, whose record is there still,
 * so that the next prune removes it again.
 */
async function resealNamed(state: RepositoryState, name: string, signal: AbortSignal): Promise<void> {
  const kind = kindOf(name)
  const plain = openObject(state.keys, kind, name, await state.storage.get(name, undefined, { signal }), name)
  const sealed = sealObject(state.keys, kind, name, plain, state.ambient.randomBytes(32))
  await state.storage.put(name, sealed, { signal, keep: KEPT.includes(kind) })
}

/**
 * A tail grows under its writer, so it is never overwritten: a later epoch has names of its own, and the old object goes
 * only once one of the current epoch, from the same offset, holds as much.
 */
async function resealTail(state: RepositoryState, name: string, signal: AbortSignal): Promise<void> {
  const parts = name.split('/')
  const place = tailPlace(parts.pop() as string)
  const renewed = [...parts, tailComponent({ offset: place.offset, epoch: state.keys.epoch })].join('/')
  const plain = openObject(state.keys, 'L', name, await state.storage.get(name, undefined, { signal }), name)
  const sealed = sealObject(state.keys, 'L', renewed, plain, state.ambient.randomBytes(32))
  if (!(await state.storage.create(renewed, sealed, { signal }))) {
    const there = openObject(state.keys, 'L', renewed, await state.storage.get(renewed, undefined, { signal }), renewed)
    if (rawBytes(there) < rawBytes(plain)) return
  }
  await state.storage.delete(name, { signal })
}

function rawBytes(plain: Buffer): number {
  return (JSON.parse(plain.toString('utf8', 0, plain.indexOf(0x0a))) as { bytes: number }).bytes
}

function kindOf(name: string): SealedKind {
  if (name.startsWith(PREFIX.ends)) return 'E'
  if (name.startsWith(PREFIX.receipts)) return 'R'
  if (name.startsWith(PREFIX.expired)) return 'X'
  if (name.startsWith(PREFIX.holds)) return 'D'
  if (name.includes('/histories/')) return 'H'
  return name.includes('/trims/') ? 'T' : 'L'
}
