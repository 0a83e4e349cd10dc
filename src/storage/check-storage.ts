import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isRegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { skewText } from './clock-skew.ts'
import type { CallOptions, Storage } from './contract.ts'
import { type Effort, GUARANTEES, type Guarantee, listed, settled } from './guarantees.ts'

/** Enough to show a race that a store loses by design; some hundred requests. */
const EFFORT: Effort = { racers: 12, rounds: 2, largest: 9_000_000 }

/** Where it works: no name of an object. */
export const SCRATCH = 'probe'

const UNUSABLE = ['storage-denied', 'storage-full', 'storage-unavailable'] as const

export interface StorageFinding {
  what: string
  /** Null: kept. Else what was seen, or why it could not be found out. */
  broken: string | null
  /** What that means for the data. */
  otherwise: string
}

/**
 * Uses a store, in a folder of its own beside what it holds, the way a repository does, and says which of the contract's
 * guarantees it keeps. Removes what it made (but one small locked object where the store has immutability). Rejects if it is
 * interrupted, and if the store can not be used at all now: full, out of reach, not to be written by this user.
 */
export async function checkStorage(
  storage: Storage,
  ambient: Pick<Ambient, 'randomBytes'>,
  options: CallOptions = {},
): Promise<StorageFinding[]> {
  const run = `${SCRATCH}/${ambient.randomBytes(4).toString('hex')}`
  const find = async ({ what, otherwise, check }: Guarantee, tell: (error: unknown) => string) => {
    // A folder each: they run at the same time, and most of it is waiting.
    const prefix = `${run}/${GUARANTEES.findIndex((guarantee) => guarantee.what === what)}/`
    const place = { storage, prefix, effort: EFFORT, options, randomBytes: ambient.randomBytes }
    return { what, otherwise, broken: await check(place).catch(tell) }
  }
  try {
    const [first, ...others] = GUARANTEES as [Guarantee, ...Guarantee[]]
    // Whoever can not even put an object finds nothing out.
    const found = await find(first, unlessUnusable)
    return [found, ...(await settled(others.map((guarantee) => find(guarantee, told))))]
  } finally {
    await cleanUp(storage, `${run}/`)
  }
}

/**
 * Asks the store something and compares clocks; null: they agree, or the store tells no time. No clock decides what becomes
 * of data (docs/format.md), so this is for a person to know.
 */
export async function clockSkew(
  storage: Storage,
  ambient: Pick<Ambient, 'now'>,
  options: CallOptions = {},
): Promise<string | null> {
  if (!storage.lastTimeMs) return null
  // A listing: the one call whose answer tells the time in every driver that has one.
  for await (const _ of storage.list(`${SCRATCH}/`, options)) break
  const apart = skewText(storage.lastTimeMs(), ambient.now())
  if (apart === null) return null
  return `This machine's clock ${apart} that of ${storage.description}. Nothing that is stored is at risk: no clock decides that. But points are dated, retention and schedules go by this machine's clock, and locks end by the store's. Set the one that is wrong.`
}

function told(error: unknown): string {
  if (!isRegainError(error) || error.code === 'interrupted') throw error
  return error.message.replace(/\.$/, '')
}

function unlessUnusable(error: unknown): string {
  if (UNUSABLE.some((code) => isRegainError(error, code))) throw error
  return told(error)
}

/** Also after an interruption. What cannot be removed was reported by the check of removing. */
async function cleanUp(storage: Storage, prefix: string): Promise<void> {
  try {
    for (const { name } of await listed(storage, prefix)) await storage.delete(name)
    // Objects do not know the folders that they left.
    const { localDirectory } = storage
    if (localDirectory !== undefined) await rm(join(localDirectory, SCRATCH), { recursive: true, force: true })
  } catch (error) {
    if (!isRegainError(error)) throw error
  }
}
