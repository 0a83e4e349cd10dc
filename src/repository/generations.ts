import { isRegainError, RegainError } from '../errors.ts'
import { generationName, lastComponent, PREFIX } from './format/object-names.ts'
import { openRecord, sealRecord } from './format/records.ts'
import { listPacks } from './packs/chunk-index.ts'
import type { RepositoryState } from './repository-state.ts'
import { isLoss } from './verify/damage.ts'

/** Tombstone generations as objects: read, made, retired. When a collector publishes one: collector/publish-generation.ts. */

/** Where there is data there is a generation: it names what may be removed. */
const DATA = [PREFIX.packs, PREFIX.index, PREFIX.sessions, PREFIX.ends, PREFIX.receipts, PREFIX.expired]

const GENERATION = /^generations\/0[0-9]{15}$/

/** Each in vain only if a whole collection passed by during it. */
const LOOKS = 4

/** Rejects with `repository-damaged` if there is none though the repository has been used. */
export async function newestGeneration(state: RepositoryState, signal: AbortSignal): Promise<number> {
  for (let look = 0; look < LOOKS; look++) {
    const newest = await listNewest(state, signal)
    if (newest !== null) return newest
    // While it was listed, one may have been made and the one before it retired: then neither need be in the listing.
  }
  if (await hasData(state, signal))
    throw new RegainError(
      'repository-damaged',
      'The repository has no generation object: it was removed. No backup can be written safely.',
      { hint: 'Mend it, while no prune runs anywhere, with: regain repository repair' },
    )
  // Whoever made the repository died before its first generation.
  await createFirstGeneration(state)
  return 0
}

export interface Tombstones {
  /** Hex names of packs. */
  packs: Set<string>
  /** They are all that were there as this was read: another who reads it may get more. */
  isAll: boolean
}

/** Null: the generation has been retired meanwhile. */
export async function readTombstones(
  state: RepositoryState,
  generation: number,
  signal: AbortSignal,
): Promise<Set<string> | null> {
  return (await readGeneration(state, generation, signal))?.packs ?? null
}

/** Null: the generation has been retired meanwhile. */
export async function readGeneration(
  state: RepositoryState,
  generation: number,
  signal: AbortSignal,
): Promise<Tombstones | null> {
  const name = generationName(generation)
  try {
    const sealed = await state.storage.get(name, undefined, { signal })
    const { tombstones, all } = openRecord(state.keys, 'G', name, sealed)
    // Listed after it was read: what comes later was in no generation that was lost.
    if (all) return { packs: new Set((await listPacks(state, signal)).keys()), isAll: true }
    return { packs: new Set(tombstones), isAll: false }
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) return null
    throw error
  }
}

/** False: there is one of this number already, which another collector made. */
export async function createGeneration(
  state: RepositoryState,
  generation: number,
  tombstones: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  const name = generationName(generation)
  const sealed = sealRecord(
    state.keys,
    'G',
    name,
    { generation, tombstones: [...tombstones] },
    state.ambient.randomBytes(32),
  )
  return state.storage.create(name, sealed, { signal, fromReserve: true })
}

/** Of lost ones nobody knows the numbers: further than any collector gets that had read one of them. */
const BEYOND = 1_000_000_000

/**
 * The number of a generation that no lost one, and none that a collector of a lost one still makes, comes after: sessions name those
 * that there were, and each prune adds one.
 */
export async function numberBeyond(state: RepositoryState, signal: AbortSignal): Promise<number> {
  let known = (await listNewest(state, signal)) ?? 0
  const names: string[] = []
  for await (const { name } of state.storage.list(PREFIX.sessions, { signal })) names.push(name)
  for (const name of names)
    try {
      const sealed = await state.storage.get(name, undefined, { signal })
      known = Math.max(known, openRecord(state.keys, 'S', name, sealed).generation)
    } catch (error) {
      if (!isLoss(error)) throw error
    }
  return known + BEYOND
}

/** Marks every pack that there is; docs/format.md, Collectors. False: there is one of this number already. */
export async function createGenerationOfAll(
  state: RepositoryState,
  generation: number,
  signal: AbortSignal,
): Promise<boolean> {
  const name = generationName(generation)
  const record = { generation, tombstones: [], all: true as const }
  const sealed = sealRecord(state.keys, 'G', name, record, state.ambient.randomBytes(32))
  return state.storage.create(name, sealed, { signal, fromReserve: true })
}

/** What a later one has taken over. */
export async function retireGenerations(state: RepositoryState, before: number, signal: AbortSignal): Promise<void> {
  const older: string[] = []
  for await (const { name } of state.storage.list(PREFIX.generations, { signal }))
    if (Number(lastComponent(name)) < before) older.push(name)
  for (const name of older.sort()) await state.storage.delete(name, { signal })
}

/** Only for a repository that was never written to. */
export async function createFirstGeneration(state: RepositoryState): Promise<void> {
  const name = generationName(0)
  const record = { generation: 0, tombstones: [] }
  await state.storage.create(name, sealRecord(state.keys, 'G', name, record, state.ambient.randomBytes(32)))
}

async function listNewest(state: RepositoryState, signal: AbortSignal): Promise<number | null> {
  let newest: number | null = null
  for await (const object of state.storage.list(PREFIX.generations, { signal }))
    if (GENERATION.test(object.name)) newest = Math.max(newest ?? 0, Number(lastComponent(object.name)))
  return newest
}

async function hasData(state: RepositoryState, signal: AbortSignal): Promise<boolean> {
  for (const prefix of DATA) for await (const _ of state.storage.list(prefix, { signal })) return true
  return false
}
