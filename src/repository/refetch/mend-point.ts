import { throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry, Point } from '../../model.ts'
import { mapBounded } from '../bounded.ts'
import { chunkId } from '../format/domain-keys.ts'
import { readListing } from '../listing/listing-reader.ts'
import { ListingWriter } from '../listing/listing-writer.ts'
import { isLoss } from '../verify/damage.ts'
import { type Donors, lossAsNull, nearest } from './donors.ts'
import { bringBack, type Mending, mendEntry } from './mend-entry.ts'
import { rebuildEntries } from './rebuild-listing.ts'

/** Entries that are looked at together, and of them at once. */
const BATCH = 256
const AT_ONCE = 8
/** Points nearby whose unchanged files tell the ids of a lost page. */
const NEARBY = 2
/** Of entries that are not whole: enough to tell a person, whatever there is to tell. */
const MAX_PATHS = 10_000
/** Stands among the paths for the point's own listing. */
export const LISTING = '(listing)'

/**
 * Brings back what a point misses, its listing included. Resolves with the paths of which something is still missing.
 * `points`: all of this repository.
 */
export async function mendPoint(
  mending: Mending,
  point: Point,
  points: readonly Point[],
  donors: Donors,
  { signal, looked }: { signal: AbortSignal; looked(entries: number): void },
): Promise<Set<string>> {
  const left = new Set<string>()
  const mendAll = async (entries: readonly Entry[]) => {
    throwIfInterrupted(signal)
    mending.session.throwIfFailed()
    await mapBounded(entries, AT_ONCE, async (entry) => {
      const isWhole = await mendEntry(mending, point, entry, donors)
      if (!isWhole && left.size < MAX_PATHS) left.add(displayPath(entry.path))
    })
    looked(entries.length)
  }
  try {
    for await (const entries of batches(readListing(mending.holdings.read, point.listing))) await mendAll(entries)
    return left
  } catch (error) {
    // Whatever concerns an entry and its donors is told by `mendEntry`: it is the listing that can't be read.
    if (!isLoss(error)) throw error
  }
  left.clear()
  if (!(await rebuildListing(mending, point, points, donors, mendAll))) left.add(LISTING)
  return left
}

/** Makes the pages of a listing anew and brings those back that are lost. False: they did not come out as they were. */
async function rebuildListing(
  mending: Mending,
  point: Point,
  points: readonly Point[],
  donors: Donors,
  mendAll: (entries: readonly Entry[]) => Promise<void>,
): Promise<boolean> {
  const copy = await donors.counterpart()
  if (copy === null) return false
  const { keys } = mending.state
  const store = async (page: Buffer) => {
    const id = chunkId(keys, page)
    if (await mending.holdings.isUnreadable(id)) await bringBack(mending, id, page, true)
    return id.toString('hex')
  }
  const writer = new ListingWriter(keys, { unordered: false, store })
  const entries = rebuildEntries(mending, point, copy, nearest(point, points, NEARBY))
  const root = await lossAsNull(async () => {
    for await (const batch of batches(entries)) {
      await mendAll(batch)
      for (const entry of batch) writer.add(entry)
    }
    return writer.finish()
  })
  return root === point.listing
}

async function* batches(entries: AsyncIterable<Entry>): AsyncGenerator<Entry[], void, undefined> {
  let batch: Entry[] = []
  for await (const entry of entries) {
    batch.push(entry)
    if (batch.length < BATCH) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
