import type { Entry, Point } from '../../model.ts'
import type { OpenPoint } from '../api.ts'
import { chunkId, ID_BYTES } from '../format/domain-keys.ts'
import { decodePage, type Page } from '../format/listing-page.ts'
import { Walk } from '../listing/walk.ts'
import { INLINE_CHUNKS } from '../points/content-queue.ts'
import { isLoss } from '../verify/damage.ts'
import { bringBack, cuttingOf, idsOfContent, listsOf, type Mending } from './mend-entry.ts'

/**
 * The entries of a point of which pages are lost, as they were here. What the other repository's copy holds of them is the
 * same but for the ids of chunks, which mean nothing here: those come from the pages that are left, or from an unchanged
 * file of a point nearby, or of the content itself, cut anew. The id of the root page tells in the end whether all is as it was.
 */
export async function* rebuildEntries(
  mending: Mending,
  point: Point,
  copy: OpenPoint,
  nearby: readonly Point[],
): AsyncGenerator<Entry, void, undefined> {
  const { read } = mending.holdings
  const own = new Walk(readableEntries(read, point.listing))
  const others = nearby.map(({ listing }) => new Walk(readableEntries(read, listing)))
  try {
    for await (const theirs of copy.entries()) {
      const known = await own.at(theirs.path)
      const alike = known ? null : await firstAlike(others, theirs)
      yield known ?? (await withOwnIds(mending, point, copy, theirs, alike))
    }
  } finally {
    for (const walk of [own, ...others]) await walk.close()
  }
}

async function firstAlike(others: readonly Walk[], entry: Entry): Promise<Entry | null> {
  // Each is read on, found or not.
  const found = await Promise.all(others.map((walk) => walk.at(entry.path)))
  return found.find((other) => other !== null && isUnchanged(other, entry)) ?? null
}

function isUnchanged(a: Entry, b: Entry): boolean {
  const keys = ['type', 'size', 'mtime', 'ctime', 'inode', 'damaged'] as const
  return keys.every((key) => a[key] === b[key])
}

/** In the order of fields in which a writer sets them: the same entry makes the same page. */
async function withOwnIds(
  mending: Mending,
  point: Point,
  copy: OpenPoint,
  theirs: Entry,
  alike: Entry | null,
): Promise<Entry> {
  const { chunks, chunkLists, extents, ...entry }: Entry = theirs
  const described: Entry = extents === undefined ? entry : { ...entry, extents }
  if (chunks === undefined && chunkLists === undefined) return described
  if (alike?.chunks !== undefined) return { ...described, chunks: alike.chunks }
  if (alike?.chunkLists !== undefined) return { ...described, chunkLists: alike.chunkLists }
  const ids = await idsOfContent(mending, theirs, cuttingOf(point, theirs), { point: copy, entry: theirs })
  if (ids.length <= INLINE_CHUNKS * ID_BYTES) return { ...described, chunks: ids.toString('base64') }
  const lists: Buffer[] = []
  for (const list of listsOf(ids)) {
    const id = chunkId(mending.state.keys, list)
    lists.push(id)
    if (await mending.holdings.isUnreadable(id)) await bringBack(mending, id, list, true)
  }
  return { ...described, chunkLists: Buffer.concat(lists).toString('base64') }
}

/** What the pages hold that can still be read, in order. */
async function* readableEntries(
  read: (id: Uint8Array) => Promise<Buffer>,
  id: string,
  above: number = Number.POSITIVE_INFINITY,
): AsyncGenerator<Entry, void, undefined> {
  let page: Page
  try {
    page = decodePage(await read(Buffer.from(id, 'hex')))
  } catch (error) {
    if (!isLoss(error)) throw error
    return
  }
  if (page.level >= above) return
  if ('entries' in page) yield* page.entries
  else for (const reference of page.pages) yield* readableEntries(read, reference.page, page.level)
}
