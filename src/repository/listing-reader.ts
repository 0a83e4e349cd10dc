import { RegainError } from '../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../model.ts'
import { ID_BYTES } from './format/domain-keys.ts'
import { decodePage, type Page, type PageReference } from './format/listing-page.ts'

type ReadChunk = (id: Uint8Array) => Promise<Buffer>

/** All entries below a root page, in order. `ahead` as for readLeaves. */
export async function* readListing(read: ReadChunk, root: string, ahead = 0): AsyncGenerator<Entry, void, undefined> {
  // Not by yield*, which would take each entry through every level's generator.
  for await (const entries of readLeaves(read, root, ahead)) for (const entry of entries) yield entry
}

/**
 * The same, leaf by leaf. Of each level one page is held, and the bytes of up to `ahead` that come next, which are asked for
 * before their turn: of a store far away each would be waited for alone.
 */
export async function* readLeaves(read: ReadChunk, root: string, ahead = 0): AsyncGenerator<Entry[], void, undefined> {
  yield* leavesBelow(read, readId(read, root), Number.POSITIVE_INFINITY, ahead)
}

async function* leavesBelow(
  read: ReadChunk,
  bytes: Promise<Buffer>,
  above: number,
  ahead: number,
): AsyncGenerator<Entry[], void, undefined> {
  const page = pageOf(await bytes, above)
  if ('entries' in page) {
    yield page.entries
    return
  }
  const asked: Promise<Buffer>[] = []
  try {
    let next = 0
    while (next < page.pages.length || asked.length > 0) {
      while (next < page.pages.length && asked.length <= ahead) {
        const reading = readId(read, (page.pages[next++] as PageReference).page)
        // It fails when its turn comes.
        reading.catch(() => undefined)
        asked.push(reading)
      }
      yield* leavesBelow(read, asked.shift() as Promise<Buffer>, page.level, ahead)
    }
  } finally {
    await Promise.allSettled(asked)
  }
}

async function readId(read: ReadChunk, id: string): Promise<Buffer> {
  return read(Buffer.from(id, 'hex'))
}

/** Levels fall from the root to the leaves, so a walk ends. */
function pageOf(bytes: Buffer, above: number): Page {
  const page = decodePage(bytes)
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
  if (entry.chunks !== undefined) yield* splitIds(Buffer.from(entry.chunks, 'base64'), entry)
  if (entry.chunkLists === undefined) return
  for (const list of splitIds(Buffer.from(entry.chunkLists, 'base64'), entry)) yield* splitIds(await read(list), entry)
}

/** The same, end to end. Without a wait for each where they stand in the entry. */
export async function allChunkIds(read: ReadChunk, entry: Entry): Promise<Buffer> {
  if (entry.chunkLists !== undefined) return Buffer.concat(await Array.fromAsync(chunkIds(read, entry)))
  return whole(Buffer.from(entry.chunks ?? '', 'base64'), entry)
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
