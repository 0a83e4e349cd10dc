import { RegainError } from '../../errors.ts'
import type { Entry, EntryPath } from '../../model.ts'
import type { DomainKeys } from './domain-keys.ts'

/**
 * docs/format.md, Listing. Pages are JSON lines, stored as chunks. The first line says what follows:
 *   {"level":0}   leaf: one Entry per line, in comparePaths order
 *   {"level":n}   inner: one {"first":PATH,"page":HEX,"entries":N} per line, pages of level n-1 in order
 * The root is the page a point names. A page is cut after a record whose path's hash says so, hence an unchanged region
 * of a tree gives the same pages again.
 */
export interface PageReference {
  /** Path of the first entry below the page. */
  first: EntryPath
  /** Chunk id, hex. */
  page: string
  /** Entries below the page. */
  entries: number
}

const MIN_PAGE_BYTES = 16 * 1024
export const MAX_PAGE_BYTES = 1024 * 1024
/** A line longer than this makes no page that a pack can hold. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024
/** Far more than the largest tree needs; a hostile page can't send a reader in circles. */
const MAX_LEVEL = 32
/** On average one record in 512 may end a page. */
const CUT_MASK = 0x1ff

export function pageHead(level: number): string {
  return `{"level":${level}}\n`
}

/** Decides where pages end; depends on nothing but the page's records and the key. */
export class PageCutter {
  private readonly seed: number

  constructor(keys: DomainKeys) {
    this.seed = keys.listing.readUInt32LE(0)
  }

  endsAfter(path: EntryPath, pageBytes: number): boolean {
    if (pageBytes >= MAX_PAGE_BYTES / 2) return true
    return pageBytes >= MIN_PAGE_BYTES && (this.hash(path) & CUT_MASK) === 0
  }

  /** FNV-1a over UTF-16 units, seeded from the key, its high bits folded in. */
  private hash(path: EntryPath): number {
    let hash = this.seed
    for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193)
    return hash ^ (hash >>> 15)
  }
}

export type Page = { level: 0; entries: Entry[] } | { level: number; pages: PageReference[] }

/**
 * A line of a regular file that is no hard link, as writers here order its fields: a string of JSON ends at the first quote
 * that is not escaped, so nothing in the path passes for the type.
 */
const FILE_LINE = /^\{"path":"(?:[^"\\]|\\.)*","type":"file",(?!.*"hardLink")/s

/** `withoutFiles`: most of the regular files are left out unread, but no hard link. */
export function decodePage(bytes: Buffer, { withoutFiles = false } = {}): Page {
  try {
    const lines = bytes.toString('utf8').split('\n')
    const { level } = JSON.parse(lines[0] as string) as { level: number }
    if (!Number.isInteger(level) || level < 0 || level > MAX_LEVEL || lines.at(-1) !== '') throw new Error('not a page')
    const wanted = lines.slice(1, -1).filter((line) => !withoutFiles || !FILE_LINE.test(line))
    const records = wanted.map((line) => JSON.parse(line) as unknown)
    return level === 0 ? { level: 0, entries: records as Entry[] } : { level, pages: records as PageReference[] }
  } catch (error) {
    throw new RegainError('repository-damaged', 'A listing page does not hold what it should.', { cause: error })
  }
}
