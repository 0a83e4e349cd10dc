import { RegainError } from '../../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import { decodePage, type Page, type PageReference } from '../format/listing-page.ts'

type ReadChunk = (id: Uint8Array) => Promise<Buffer>

/** What of a listing is read. */
export interface ListingPart {
  /** Of the paths from `first` on, and before `next` (null: to the end), is any wanted? Pages of others are not read. */
  wants?: ((first: EntryPath, next: EntryPath | null) => boolean) | undefined
  /** Regular files may be left out, as far as they are no hard links. */
  withoutFiles?: boolean
}

/** All entries below a root page, in order. `ahead` as for readLeaves. */
export async function* readListing(
  read: ReadChunk,
  root: string,
  ahead = 0,
  part: ListingPart = {},
): AsyncGenerator<Entry, void, undefined> {
  // Not by yield*, which would take each entry through every level's generator.
  for await (const entries of readLeaves(read, root, ahead, part)) for (const entry of entries) yield entry
}

/**
 * The same, leaf by leaf. Of each level one page is held, and the bytes of up to `ahead` that come next, which are asked for
 * before their turn: of a store far away each would be waited for alone.
 */
export async function* readLeaves(
  read: ReadChunk,
  root: string,
  ahead = 0,
  part: ListingPart = {},
): AsyncGenerator<Entry[], void, undefined> {
  const below = { level: Number.POSITIVE_INFINITY, next: null }
  yield* leavesBelow(read, readId(read, root), below, ahead, part)
}

async function* leavesBelow(
  read: ReadChunk,
  bytes: Promise<Buffer>,
  above: { level: number; next: EntryPath | null },
  ahead: number,
  part: ListingPart,
): AsyncGenerator<Entry[], void, undefined> {
  const page = pageOf(await bytes, above.level, part)
  if ('entries' in page) {
    yield page.entries
    return
  }
  const { level } = page
  const wanted = page.pages
    .map(({ first, page: id }, index) => ({ first, id, next: page.pages[index + 1]?.first ?? above.next }))
    .filter(({ first, next }) => part.wants?.(first, next) ?? true)
  const asked: { bytes: Promise<Buffer>; next: EntryPath | null }[] = []
  try {
    let at = 0
    while (at < wanted.length || asked.length > 0) {
      while (at < wanted.length && asked.length <= ahead) {
        const { id, next } = wanted[at++] as (typeof wanted)[number]
        const reading = readId(read, id)
        // It fails when its turn comes.
        reading.catch(() => undefined)
        asked.push({ bytes: reading, next })
      }
      const { bytes: reading, next } = asked.shift() as (typeof asked)[number]
      yield* leavesBelow(read, reading, { level, next }, ahead, part)
    }
  } finally {
    await Promise.allSettled(asked.map((page) => page.bytes))
  }
}

async function readId(read: ReadChunk, id: string): Promise<Buffer> {
  return read(Buffer.from(id, 'hex'))
}

/** Levels fall from the root to the leaves, so a walk ends. */
function pageOf(bytes: Buffer, above: number, part: ListingPart = {}): Page {
  const page = decodePage(bytes, part)
  if (page.level >= above) throw new RegainError('repository-damaged', 'The pages of a listing contradict each other.')
  return page
}

/** The entry of a path, or null; reads one page of each level. */
export async function findEntry(
  read: ReadChunk,
  root: string,
  path: EntryPath,
  above: number = Number.POSITIVE_INFINITY,
): Promise<Entry | null> {
  const page = pageOf(await readId(read, root), above)
  if ('entries' in page) return page.entries.find((entry) => entry.path === path) ?? null
  let below: PageReference | undefined
  for (const reference of page.pages) {
    if (comparePaths(reference.first, path) > 0) break
    below = reference
  }
  return below ? findEntry(read, below.page, path, page.level) : null
}

/** Ids of a file's chunks, in order, 32 bytes each; long lists are read piece by piece. */
export async function* chunkIds(read: ReadChunk, entry: Entry): AsyncGenerator<Buffer, void, undefined> {
  yield* ownChunkIds(entry)
  if (entry.chunkLists === undefined) return
  for (const list of splitIds(Buffer.from(entry.chunkLists, 'base64'), entry)) yield* splitIds(await read(list), entry)
}

/** The same, end to end. Without a wait for each where they stand in the entry. */
export async function allChunkIds(read: ReadChunk, entry: Entry): Promise<Buffer> {
  if (entry.chunkLists !== undefined) return Buffer.concat(await Array.fromAsync(chunkIds(read, entry)))
  return whole(Buffer.from(entry.chunks ?? '', 'base64'), entry)
}

/** Those that the entry names itself: all, unless it has chunk lists. */
export function ownChunkIds(entry: Entry): Iterable<Buffer> {
  return entry.chunks === undefined ? [] : splitIds(Buffer.from(entry.chunks, 'base64'), entry)
}

function* splitIds(bytes: Buffer, entry: Entry): Generator<Buffer, void, undefined> {
  whole(bytes, entry)
  for (let at = 0; at < bytes.length; at += ID_BYTES) yield bytes.subarray(at, at + ID_BYTES)
}

function whole(ids: Buffer, entry: Entry): Buffer {
  if (ids.length % ID_BYTES === 0) return ids
  throw new RegainError('repository-damaged', `The chunk list of ${JSON.stringify(entry.path)} is cut.`)
}

/** Where a file's content lies in it: [offset, length] of each data range, ascending; what is between them is a hole. */
export function dataRanges(entry: Entry): [number, number][] {
  if (entry.extents) return entry.extents
  return entry.size ? [[0, entry.size]] : []
}

/** Bytes of a file's content, without its holes. */
export function contentBytes(entry: Entry): number {
  return dataRanges(entry).reduce((sum, [, length]) => sum + length, 0)
}
