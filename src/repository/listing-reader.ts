import { RegainError } from '../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../model.ts'
import { ID_BYTES } from './format/domain-keys.ts'
import { decodePage, type Page, type PageReference } from './format/listing-page.ts'

type ReadChunk = (id: Uint8Array) => Promise<Buffer>

/** All entries below a root page, in order. */
export async function* readListing(read: ReadChunk, root: string): AsyncGenerator<Entry, void, undefined> {
  // Not by yield*, which would take each entry through every level's generator.
  for await (const entries of readLeaves(read, root)) for (const entry of entries) yield entry
}

/** The same, leaf by leaf; at most one page of each level is held. */
export async function* readLeaves(
  read: ReadChunk,
  root: string,
  above: number = Number.POSITIVE_INFINITY,
): AsyncGenerator<Entry[], void, undefined> {
  const page = await readPage(read, root, above)
  if ('entries' in page) yield page.entries
  else for (const reference of page.pages) yield* readLeaves(read, reference.page, page.level)
}

/** Levels fall from the root to the leaves, so a walk ends. */
async function readPage(read: ReadChunk, id: string, above: number): Promise<Page> {
  const page = decodePage(await read(Buffer.from(id, 'hex')))
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
  const page = await readPage(read, root, above)
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

function* splitIds(bytes: Buffer, entry: Entry): Generator<Buffer, void, undefined> {
  if (bytes.length % ID_BYTES !== 0)
    throw new RegainError('repository-damaged', `The chunk list of ${JSON.stringify(entry.path)} is cut.`)
  for (let at = 0; at < bytes.length; at += ID_BYTES) yield bytes.subarray(at, at + ID_BYTES)
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
