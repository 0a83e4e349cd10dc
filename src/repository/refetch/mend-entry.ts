import type { Entry, Point } from '../../model.ts'
import { isChunk } from '../compute/open-groups.ts'
import { chunkId, ID_BYTES } from '../format/domain-keys.ts'
import { contentBytes } from '../listing/listing-reader.ts'
import type { PackSession } from '../packs/pack-session.ts'
import { isCutIntoPages } from '../packs/page-chunks.ts'
import { LIST_IDS } from '../points/content-queue.ts'
import type { RepositoryState } from '../repository-state.ts'
import type { Cutter, Cutting } from './cut.ts'
import { type Donor, type Donors, lossAsNull } from './donors.ts'
import type { Holdings } from './holdings.ts'

export interface Mending {
  state: RepositoryState
  holdings: Holdings
  session: PackSession
  cutter: Cutter
  /** A chunk was brought back. */
  fetched(bytes: number, metadata: boolean): void
}

/** Where in the donor's content a chunk lies. */
type Read = (offset: number, length: number) => Promise<Buffer | null>

/** Brings back the chunks that an entry misses. False: not all could be had. */
export async function mendEntry(mending: Mending, point: Point, entry: Entry, donors: Donors): Promise<boolean> {
  if (entry.chunks === undefined && entry.chunkLists === undefined) return true
  const ids = await idsOf(mending, point, entry, donors)
  if (ids === null) return false
  const lost = new Uint8Array(ids.length / ID_BYTES)
  for (let i = 0; i < lost.length; i++) if (await mending.holdings.isLost(idAt(ids, i))) lost[i] = 1
  if (!lost.includes(1)) return true
  for await (const donor of donors.of(entry)) {
    await fetchChunks(mending, entry, ids, lost, donor)
    if (!lost.includes(1)) return true
  }
  return false
}

/**
 * Walks the entry's chunks and the donor's content side by side: the lengths of the chunks before it tell where one begins, and
 * its own where it ends. One whose length no index tells any more ends where a writer would have cut, as its id confirms.
 */
async function fetchChunks(
  mending: Mending,
  entry: Entry,
  ids: Buffer,
  lost: Uint8Array,
  { point, entry: theirs }: Donor,
): Promise<void> {
  const cursor = point.cursor(theirs)
  const read: Read = (offset, length) => lossAsNull(() => cursor.read(offset, length))
  let offset = 0
  for (let i = 0; i < lost.length; i++) {
    const id = idAt(ids, i)
    const length = mending.holdings.lengthOf(id)
    const end = length === null ? await findEnd(mending, entry, ids, i, offset, read) : offset + length
    if (end === null) return
    if (lost[i] === 1) {
      const bytes = await read(offset, end - offset)
      if (bytes && (await bringBack(mending, id, bytes, false))) lost[i] = 0
    }
    offset = end
  }
}

async function findEnd(
  { state, holdings, cutter }: Mending,
  entry: Entry,
  ids: Buffer,
  i: number,
  offset: number,
  read: Read,
): Promise<number | null> {
  const rest = restOf(holdings, ids, i + 1)
  const byRest = rest === null ? [] : [contentBytes(entry) - rest]
  const likely = await lossAsNull(() =>
    cutter.endsFrom(entry, offset, async (at, length) => (await read(at, length)) ?? Buffer.alloc(0)),
  )
  for (const end of [...byRest, ...(likely ?? [])]) {
    const bytes = end > offset ? await read(offset, end - offset) : null
    if (bytes && isChunk(state.keys, idAt(ids, i), bytes)) return end
  }
  // What follows it can be had all the same.
  return byRest[0] !== undefined && byRest[0] > offset ? byRest[0] : null
}

/** Bytes of the chunks from number `i` on; null if that is not known of each. */
function restOf(holdings: Holdings, ids: Buffer, i: number): number | null {
  let sum = 0
  for (let at = i * ID_BYTES; at < ids.length; at += ID_BYTES) {
    const length = holdings.lengthOf(ids.subarray(at, at + ID_BYTES))
    if (length === null) return null
    sum += length
  }
  return sum
}

/** False: these bytes are not that chunk. */
export async function bringBack(mending: Mending, id: Buffer, bytes: Uint8Array, metadata: boolean): Promise<boolean> {
  if (!isChunk(mending.state.keys, id, bytes)) return false
  await mending.session.put(new Uint8Array(bytes).buffer, [bytes.length], metadata)
  mending.holdings.hasBack(id)
  mending.fetched(bytes.length, metadata)
  return true
}

/** Null: a list of them is lost and can't be made again. */
async function idsOf(mending: Mending, point: Point, entry: Entry, donors: Donors): Promise<Buffer | null> {
  const own = Buffer.from(entry.chunks ?? '', 'base64')
  const lists = Buffer.from(entry.chunkLists ?? '', 'base64')
  const parts: Buffer[] = [own]
  for (let i = 0; i < lists.length / ID_BYTES; i++) {
    const id = idAt(lists, i)
    const list = await lossAsNull(() => mending.holdings.read(id))
    if (list === null) return remakeLists(mending, point, entry, lists, donors)
    parts.push(list)
  }
  return Buffer.concat(parts)
}

/** Cuts the content anew and names its chunks: the lists' own ids tell whether they are what they were. */
async function remakeLists(
  mending: Mending,
  point: Point,
  entry: Entry,
  lists: Buffer,
  donors: Donors,
): Promise<Buffer | null> {
  const { keys } = mending.state
  for await (const donor of donors.of(entry))
    for (const cutting of cuttingsOf(point)) {
      const ids = await lossAsNull(() => idsOfContent(mending, entry, cutting, donor))
      if (ids === null) break
      const made = listsOf(ids)
      if (made.length !== lists.length / ID_BYTES) continue
      if (!made.every((list, i) => isChunk(keys, idAt(lists, i), list))) continue
      for (const [i, list] of made.entries())
        if (await mending.holdings.isUnreadable(idAt(lists, i))) await bringBack(mending, idAt(lists, i), list, true)
      return ids
    }
  return null
}

/** Ids of an entry's chunks, if they were cut this way. */
export async function idsOfContent(
  { state, cutter }: Mending,
  entry: Entry,
  cutting: Cutting,
  { point, entry: theirs }: Donor,
): Promise<Buffer> {
  const cursor = point.cursor(theirs)
  const ids: Buffer[] = []
  for await (const chunk of cutter.cut(entry, cutting, (offset, length) => cursor.read(offset, length)))
    ids.push(chunkId(state.keys, chunk))
  return Buffer.concat(ids)
}

export function listsOf(ids: Buffer): Buffer[] {
  const lists: Buffer[] = []
  for (let at = 0; at < ids.length; at += LIST_IDS * ID_BYTES) lists.push(ids.subarray(at, at + LIST_IDS * ID_BYTES))
  return lists
}

/** A copy was streamed from another repository, an original was read by itself; either may hold parts of the other. */
function cuttingsOf({ sourceType, origin }: Point): Cutting[] {
  if (sourceType === 'postgres') return ['pages', 'stream']
  if (sourceType === 'postgres-dump' || sourceType === 'postgres-tenants') return ['dump', 'file']
  return origin === undefined ? ['file', 'stream'] : ['stream', 'file']
}

/** The likeliest, where no ids are left that could tell. A copy is cut as its original is. */
export function cuttingOf(point: Point, theirs: Entry): Cutting {
  if (point.sourceType === 'postgres') return isCutIntoPages(theirs) ? 'pages' : 'stream'
  return (cuttingsOf(point) as [Cutting])[0]
}

function idAt(ids: Buffer, i: number): Buffer {
  return ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)
}
