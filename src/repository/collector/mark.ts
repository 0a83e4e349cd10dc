import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import { mapBounded } from '../bounded.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import { decodePage, type PageReference } from '../format/listing-page.ts'
import { loadChunkIndex } from '../packs/chunk-index.ts'
import { ChunkReader } from '../packs/chunk-reader.ts'
import { Copies } from '../packs/copies.ts'
import type { RepositoryState } from '../repository-state.ts'
import type { Catalog, CatalogPack } from './catalog.ts'
import type { Root } from './roots.ts'

/** Bits of a chunk. The same bytes may be a page, a list and content, so being needed does not say what was walked. */
const NEEDED = 1
const WALKED_PAGE = 2
const WALKED_LIST = 4

const PAGES_AT_ONCE = 6

interface Walk {
  state: RepositoryState
  signal: AbortSignal
  progress(progress: Progress): void
}

/** What the roots need: one byte for each slot of the catalog's table. */
export class Marks {
  private readonly catalog: Catalog
  private readonly bits: Uint8Array

  constructor(catalog: Catalog) {
    this.catalog = catalog
    this.bits = new Uint8Array(catalog.index.table.slotCount)
  }

  needs(id: Uint8Array): boolean {
    const slot = this.catalog.index.table.slotOf(id)
    return slot >= 0 && ((this.bits[slot] as number) & NEEDED) !== 0
  }

  /** Listing pages and chunk lists, which packs keep apart from content. */
  isMetadata(id: Uint8Array): boolean {
    const slot = this.catalog.index.table.slotOf(id)
    return slot >= 0 && ((this.bits[slot] as number) & (WALKED_PAGE | WALKED_LIST)) !== 0
  }

  /** The copy to keep of a chunk that is needed. */
  keeper(id: Uint8Array): CatalogPack {
    const location = this.catalog.index.table.get(id)
    if (!location) throw new Error('a needed chunk is in the catalog')
    return this.catalog.byNumber[location.pack] as CatalogPack
  }

  /** Throws `repository-damaged` if no usable pack holds the chunk: a mark that can't see all that is needed is none. */
  need(id: Uint8Array, of: string): number {
    const slot = this.catalog.index.table.slotOf(id)
    if (slot < 0)
      throw new RegainError(
        'repository-damaged',
        `${of} needs chunk ${Buffer.from(id).toString('hex')}, which no pack and index give. Nothing was removed.`,
        {
          hint: 'Mend the index with: regain repository repair. If that does not help, regain verify names what is lost.',
        },
      )
    this.bits[slot] = (this.bits[slot] as number) | NEEDED
    return slot
  }

  isWalked(slot: number, bit: number): boolean {
    return ((this.bits[slot] as number) & bit) !== 0
  }

  setWalked(slot: number, bit: number): void {
    this.bits[slot] = (this.bits[slot] as number) | bit
  }
}

/**
 * Marks all that the roots need: listing pages, chunk lists, chunks. A page that was walked is not walked again, so what
 * points share costs nothing. Fails closed: rejects with what could not be read.
 */
export async function mark(walk: Walk, catalog: Catalog, roots: readonly Root[]): Promise<Marks> {
  const marks = new Marks(catalog)
  const { state, signal } = walk
  const copies = new Copies(catalog.index, (excluded) => loadChunkIndex(state, { signal, excluded }))
  const reader = new ChunkReader(state, copies, signal)
  try {
    let done = 0
    for (const root of roots) {
      walk.progress({ phase: 'marking', bytesDone: 0, filesDone: done++, filesTotal: roots.length })
      await new Marker(walk, marks, reader, root).page(root.listing, Number.POSITIVE_INFINITY)
    }
  } finally {
    reader.close()
  }
  return marks
}

class Marker {
  private readonly walk: Walk
  private readonly marks: Marks
  private readonly reader: ChunkReader
  private readonly of: string

  constructor(walk: Walk, marks: Marks, reader: ChunkReader, root: Root) {
    this.walk = walk
    this.marks = marks
    this.reader = reader
    this.of = `Recovery point ${root.id}`
  }

  async page(hex: string, above: number): Promise<void> {
    const id = Buffer.from(hex, 'hex')
    const slot = this.marks.need(id, this.of)
    if (this.marks.isWalked(slot, WALKED_PAGE)) return
    throwIfInterrupted(this.walk.signal)
    const page = decodePage(await this.reader.read(id))
    if (page.level >= above)
      throw new RegainError('repository-damaged', `The pages of ${this.of}'s listing contradict each other.`)
    if ('entries' in page)
      for (const entry of page.entries) {
        for (const chunk of idsOf(entry.chunks)) this.marks.need(chunk, this.of)
        for (const list of idsOf(entry.chunkLists)) await this.list(list)
      }
    else await this.pages(page.pages, page.level)
    // Only now: one that failed halfway was not walked.
    this.marks.setWalked(slot, WALKED_PAGE)
  }

  /** Leaves several at once; inner pages one by one, which bounds what is held. */
  private async pages(pages: readonly PageReference[], level: number): Promise<void> {
    await mapBounded(pages, level === 1 ? PAGES_AT_ONCE : 1, ({ page }) => this.page(page, level))
  }

  private async list(id: Buffer): Promise<void> {
    const slot = this.marks.need(id, this.of)
    if (this.marks.isWalked(slot, WALKED_LIST)) return
    const bytes = await this.reader.read(id)
    if (bytes.length % ID_BYTES !== 0) throw new RegainError('repository-damaged', `A chunk list of ${this.of} is cut.`)
    for (let at = 0; at < bytes.length; at += ID_BYTES) this.marks.need(bytes.subarray(at, at + ID_BYTES), this.of)
    this.marks.setWalked(slot, WALKED_LIST)
  }
}

function* idsOf(base64: string | undefined): Generator<Buffer> {
  const bytes = base64 === undefined ? Buffer.alloc(0) : Buffer.from(base64, 'base64')
  if (bytes.length % ID_BYTES !== 0) throw new RegainError('repository-damaged', 'A chunk list in a listing is cut.')
  for (let at = 0; at < bytes.length; at += ID_BYTES) yield bytes.subarray(at, at + ID_BYTES)
}
