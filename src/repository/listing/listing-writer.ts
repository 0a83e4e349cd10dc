import { RegainError } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import { MAX_LINE_BYTES, PageCutter, type PageReference, pageHead } from '../format/listing-page.ts'

/** Entries of a source that delivers in any order are kept in memory, as JSON, up to this size: some two million files. */
const MAX_UNSORTED_BYTES = 512 * 1024 * 1024

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
    this.open = new OpenPage(0)
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
    if (this.cutter.endsAfter(line.path, this.open.bytes)) this.closePage(this.pages)
  }

  private writeInner(references: readonly PageReference[], level: number): Promise<PageReference[]> {
    const pages: Promise<PageReference>[] = []
    this.open = new OpenPage(level)
    for (const reference of references) {
      this.open.add(reference.first, `${JSON.stringify(reference)}\n`, reference.entries)
      if (this.open.lines > 1 && this.cutter.endsAfter(reference.first, this.open.bytes)) this.closePage(pages)
    }
    this.closePage(pages)
    return Promise.all(pages)
  }

  private closePage(into: Promise<PageReference>[]): void {
    const { first, entries, level } = this.open
    if (first === null) return
    const stored = this.store(this.open.encode()).then((page) => ({ first, page, entries }))
    // Kept until finish looks; nobody else awaits it.
    stored.catch((error: unknown) => {
      this.failure ??= error
    })
    into.push(stored)
    this.open = new OpenPage(level)
  }
}

class OpenPage {
  readonly level: number
  first: EntryPath | null = null
  bytes: number
  lines = 0
  entries = 0
  private readonly text: string[]

  constructor(level: number) {
    this.level = level
    this.text = [pageHead(level)]
    this.bytes = (this.text[0] as string).length
  }

  add(path: EntryPath, json: string, entries: number): void {
    this.first ??= path
    this.text.push(json)
    this.bytes += json.length
    this.lines++
    this.entries += entries
  }

  encode(): Buffer {
    return Buffer.from(this.text.join(''), 'utf8')
  }
}
