import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import type { LogStore } from '../../contract.ts'
import { parseSegmentName, segmentName } from '../log/wal.ts'
import { type BlockReference, partsOf } from '../search/blocks.ts'
import { WalRecords } from '../search/records.ts'
import { CHECKSUM_OFFSET, contentChecksum, pageChecksum } from './page-checksum.ts'

/** BLCKSZ and RELSEG_SIZE, as everybody builds PostgreSQL. */
const PAGE_BYTES = 8192
const FILE_PAGES = 131_072
const DEFAULT_TABLESPACE = 1663
/** PageHeaderData, src/include/storage/bufpage.h. */
const HEADER_BYTES = 24
const UPPER_OFFSET = 14

/**
 * An empty page that recovery takes for newer than any record, so that it passes over those about it; one of zeros it takes
 * for a page that is lost.
 */
const PAGE_OF_THE_FUTURE = Buffer.alloc(PAGE_BYTES)
PAGE_OF_THE_FUTURE.fill(0xff, 0, 8)
PAGE_OF_THE_FUTURE.writeUInt16LE(HEADER_BYTES, 12)
PAGE_OF_THE_FUTURE.writeUInt16LE(PAGE_BYTES, UPPER_OFFSET)
PAGE_OF_THE_FUTURE.writeUInt16LE(PAGE_BYTES, 16)
// Version 4 of the layout, in the low byte of the page's size.
PAGE_OF_THE_FUTURE.writeUInt16LE(PAGE_BYTES | 4, 18)
const CONTENT_CHECKSUM = contentChecksum(PAGE_OF_THE_FUTURE)

/**
 * For a recovery in whose directory some databases have no content. A page is written whole into the log when it is first changed
 * after the point's start, but for records that leave it out: without data checksums, that VACUUM found all of a page
 * visible (log_heap_visible); and, where full_page_writes is off, any after the backup. Where recovery meets a page of zeros for one of these, it ends in a PANIC.
 * So before a segment is handed over, the pages that its records refer to without bringing them get a header that
 * makes recovery pass them over. What else is there, or comes with the log, stays as it is; and nobody can look at either.
 */
export class HollowPages {
  readonly #directory: string
  readonly #databases: ReadonlySet<number>
  readonly #major: number
  readonly #store: LogStore

  /** `directory`: of the data. `databases`: oids of those without content. */
  constructor(directory: string, databases: readonly number[], major: number, store: LogStore) {
    this.#directory = directory
    this.#databases = new Set(databases)
    this.#major = major
    this.#store = store
  }

  /** Safe to repeat, also after the segment was replayed. What is not a segment is left. */
  async prepare(name: string, segment: Buffer): Promise<void> {
    for (const [path, pages] of await this.#pagesOf(name, segment))
      await prepareFile(join(this.#directory, path), pages)
  }

  /** By file. A record that begins here and ends in a later segment counts here: there it would be replayed at once. */
  async #pagesOf(name: string, segment: Buffer): Promise<Map<string, Set<number>>> {
    const pages = new Map<string, Set<number>>()
    const id = parseSegmentName(name, segment.length)
    if (id === null) return pages
    const records = new WalRecords()
    let bytes: Buffer | undefined = segment
    for (let number = id.number; bytes !== undefined; number++) {
      for (const record of records.read(bytes, number * BigInt(segment.length))) {
        for (const block of partsOf(record, this.#major)?.blocks ?? []) await this.#note(pages, block)
        if (number > id.number) return pages
      }
      if (!records.isOpen) return pages
      const next = segmentName(id.timeline, number + 1n, segment.length)
      bytes = (await this.#store.read(next.slice(0, 8), next))?.bytes
    }
    return pages
  }

  async #note(pages: Map<string, Set<number>>, block: BlockReference): Promise<void> {
    // Other forks are read so that zeros are no harm.
    if (!this.#databases.has(block.database) || block.fork !== 0 || block.image !== null) return
    const folder = await this.#folderOf(block)
    if (folder === null) return
    const file = Math.floor(block.block / FILE_PAGES)
    const path = `${folder}/${block.database}/${block.number}${file === 0 ? '' : `.${file}`}`
    const known = pages.get(path)
    if (known === undefined) pages.set(path, new Set([block.block]))
    else known.add(block.block)
  }

  readonly #folders = new Map<number, string | null>()

  /** Null: the tablespace is made by the log. */
  async #folderOf({ tablespace }: BlockReference): Promise<string | null> {
    if (tablespace === DEFAULT_TABLESPACE) return 'base'
    const known = this.#folders.get(tablespace)
    if (known !== undefined) return known
    const names = await readdir(join(this.#directory, 'pg_tblspc', String(tablespace))).catch(ifAbsent([]))
    const ours = names.find((name) => name.startsWith(`PG_${this.#major}_`))
    const folder = ours === undefined ? null : `pg_tblspc/${tablespace}/${ours}`
    this.#folders.set(tablespace, folder)
    return folder
  }
}

/** `pages`: counted from the beginning of the relation. A file, or a page, that is not there is made by the log. */
async function prepareFile(path: string, pages: ReadonlySet<number>): Promise<void> {
  // Never through a link: the folder may belong to another user than us.
  const file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW).catch(ifAbsent(null))
  if (file === null) return
  try {
    const header = Buffer.alloc(HEADER_BYTES)
    for (const page of pages) {
      const at = (page % FILE_PAGES) * PAGE_BYTES
      const { bytesRead } = await file.read(header, 0, HEADER_BYTES, at)
      // Recovery takes a page for lost by this: PageIsNew.
      if (bytesRead < HEADER_BYTES || header.readUInt16LE(UPPER_OFFSET) !== 0) continue
      PAGE_OF_THE_FUTURE.copy(header)
      // Where there are no checksums, nobody looks at it.
      header.writeUInt16LE(pageChecksum(CONTENT_CHECKSUM, page), CHECKSUM_OFFSET)
      await file.write(header, 0, HEADER_BYTES, at)
    }
  } finally {
    await file.close()
  }
}
