import { RegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import { MAX_LINE_BYTES, PageCutter, type PageReference, pageHead } from '../format/listing-page.ts'

/** Entries of a source that delivers in any order are kept in memory, as JSON, up to this size: some two million files. */
const MAX_UNSORTED_BYTES = 512 * 1024 * 1024

const FIRST_PAGE_BYTES = 256 * 1024

interface Line {
  path: EntryPath
  json: string
}

/** Turns entries into pages and stores them through `store`, which resolves to a page's chunk id (hex). */
export class ListingWriter {
  private readonly cutter: PageCutter
  private readonly store: (page: Buffer) => Promise<string>
  private readonly unsorted: Line[] | null
  private unsortedBytes = 0
  private previous: EntryPath | null = null
  private open: OpenPage
  private readonly pages: Promise<PageReference>[] = []
  private failure: unknown = null
  entries = 0

  constructor(keys: DomainKeys, options: { unordered: boolean; store(page: Buffer): Promise<string> }) {
    this.cutter = new PageCutter(keys)
    this.store = options.store
    this.unsorted = options.unordered ? [] : null
    this.open = new OpenPage(0, Buffer.allocUnsafeSlow(FIRST_PAGE_BYTES))
  }

  add(entry: Entry): void {
    const line = { path: entry.path, json: `${JSON.stringify(entry)}\n` }
    if (line.json.length > MAX_LINE_BYTES)
      throw new RegainError(
        'source-unsuitable',
        `${displayPath(entry.path)} has ${line.json.length} bytes of attributes, links or holes: more than a listing can hold. Nothing was committed.`,
        { hint: 'Leave it out with exclude, or reduce its extended attributes.' },
      )
    this.entries++
    if (!this.unsorted) {
      this.append(line)
      return
    }
    this.unsorted.push(line)
    this.unsortedBytes += line.json.length
    if (this.unsortedBytes > MAX_UNSORTED_BYTES)
      throw new RegainError(
        'source-unsuitable',
        `The source has more than ${this.unsorted.length} files: too many for one point in this version.`,
      )
  }

  /** Id (hex) of the root page. */
  async finish(): Promise<string> {
    if (this.unsorted) {
      this.unsorted.sort((a, b) => comparePaths(a.path, b.path))
      for (const line of this.unsorted) this.append(line)
    }
    this.closePage(this.pages)
    let level = 0
    let references = await Promise.all(this.pages)
    while (references.length > 1) references = await this.writeInner(references, ++level)
    if (this.failure !== null) throw this.failure
    const root = references[0]
    return root ? root.page : await this.store(Buffer.from(pageHead(0)))
  }

  private append(line: Line): void {
    if (this.previous !== null && comparePaths(this.previous, line.path) >= 0)
      throw new Error(`entries out of order: ${JSON.stringify(this.previous)} then ${JSON.stringify(line.path)}`)
    this.previous = line.path
    this.open.add(line.path, line.json, 1)
    if (this.cutter.endsAfter(line.path, this.open.length)) this.closePage(this.pages)
  }

  private writeInner(references: readonly PageReference[], level: number): Promise<PageReference[]> {
    const pages: Promise<PageReference>[] = []
    this.open = new OpenPage(level, this.open.buffer)
    for (const reference of references) {
      this.open.add(reference.first, `${JSON.stringify(reference)}\n`, reference.entries)
      if (this.open.lines > 1 && this.cutter.endsAfter(reference.first, this.open.length)) this.closePage(pages)
    }
    this.closePage(pages)
    return Promise.all(pages)
  }

  private closePage(into: Promise<PageReference>[]): void {
    const { first, entries, level, buffer } = this.open
    if (first === null) return
    const stored = this.store(this.open.encode()).then((page) => ({ first, page, entries }))
    // Kept until finish looks; nobody else awaits it.
    stored.catch((error: unknown) => {
      this.failure ??= error
    })
    into.push(stored)
    this.open = new OpenPage(level, buffer)
  }
}

/** Its text is kept as bytes: as strings, most of it would outlive the collector's nursery, at 300 bytes an entry. */
class OpenPage {
  readonly level: number
  first: EntryPath | null = null
  /** UTF-16 units, by which writers of all versions have decided where pages end. */
  length = 0
  lines = 0
  entries = 0
  /** Is larger when the page was; for the next page when this one is encoded. */
  buffer: Buffer
  private filled = 0

  constructor(level: number, buffer: Buffer) {
    this.level = level
    this.buffer = buffer
    this.write(pageHead(level))
  }

  add(path: EntryPath, json: string, entries: number): void {
    this.first ??= path
    this.write(json)
    this.lines++
    this.entries += entries
  }

  encode(): Buffer {
    return Buffer.from(this.buffer.subarray(0, this.filled))
  }

  private write(text: string): void {
    // No UTF-16 unit takes more than 3 bytes of UTF-8.
    const needed = this.filled + text.length * 3
    if (needed > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(needed)))
      this.buffer.copy(larger, 0, 0, this.filled)
      this.buffer = larger
    }
    this.filled += this.buffer.write(text, this.filled, 'utf8')
    this.length += text.length
  }
}
