import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { type TargetRoot, TargetTree } from '../../filesystem/target.ts'
import { CLAIM_NAME, requireEmptyTarget } from '../../filesystem/target-claim.ts'
import type { Entry, EntryPath, Missed } from '../../model.ts'
import type { OpenPoint } from '../api.ts'
import type { ListingPart } from '../listing/listing-reader.ts'
import type { Copies } from '../packs/copies.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'
import { ContentWriter } from './content-writer.ts'
import { sweepTarget } from './sweep-target.ts'

const MAX_MISSED_KEPT = 1000
interface Listing {
  leaves(part: ListingPart): AsyncIterable<Entry[]>
  readChunk(id: Uint8Array): Promise<Buffer>
}

type Options = Parameters<OpenPoint['materialize']>[1]

/**
 * Writes a point's entries below `directory`. First pass, in order: folders (0700) and files, whose content the threads
 * write in parallel. Second pass: hard links, symbolic links and special files, and each folder's attributes when all
 * below it is done. Links come last, so nothing is ever written through one. Then one sync of the file system, unless nothing need be durable, and in the
 * end the root loses the claim of its caller (target-claim.ts), if there is one, and gets its attributes.
 *
 * Over what is there (`options.over`): all chunks are looked up first; then what does not belong is removed, and of the
 * files that stay only those chunks are read and written that they do not hold.
 */
export async function materialize(
  state: RepositoryState,
  copies: Copies,
  listing: Listing,
  directory: string,
  options: Options,
): Promise<Materialized> {
  const target: TargetRoot = { directory, places: options.places ?? [] }
  if (options.over === undefined) for (const place of [target, ...target.places]) requireEmptyTarget(place.directory)
  const tree = TargetTree.open(target)
  try {
    const restore = new Restore(state, copies, listing, tree, target, options)
    if (options.over !== undefined) await restore.clearTheWay(options.over)
    await restore.writeFiles()
    await restore.finishTree()
    if (options.durable !== false) {
      options.progress({ phase: 'syncing', bytesDone: restore.content.bytes, filesDone: restore.content.files })
      tree.syncFilesystem()
    }
    // From here on all is durable; a crash before leaves the claim, which says that the restore is not whole.
    restore.finishRoot()
    tree.syncDirectory('')
    const { missed, removed } = restore
    const { bytes, files, reusedBytes } = restore.content
    return { bytes, files, missed, ...(options.over === undefined ? {} : { over: { reusedBytes, removed } }) }
  } finally {
    tree.close()
    await state.pool.end({ type: 'end-session', session: 0 })
  }
}

type Materialized = Awaited<ReturnType<OpenPoint['materialize']>>

class Restore {
  /** Things that the target had and the point has not. */
  removed = 0
  readonly missed: Missed[] = []
  private missedCount = 0
  private readonly listing: Listing
  private readonly tree: TargetTree
  private readonly target: TargetRoot
  private readonly options: Options
  private readonly ownership: boolean
  readonly content: ContentWriter
  private hasHardLinks = false
  private root: Entry | null = null

  constructor(
    state: RepositoryState,
    copies: Copies,
    listing: Listing,
    tree: TargetTree,
    target: TargetRoot,
    options: Options,
  ) {
    this.listing = listing
    this.tree = tree
    this.target = target
    this.options = options
    this.ownership = options.ownership ?? process.getuid?.() === 0
    const place = { tree, target, ownership: this.ownership }
    this.content = new ContentWriter(state, copies, (id) => listing.readChunk(id), place, options, {
      missed: (missed) => this.miss(missed),
      attributes: (entry, details) => this.warnAttributes(entry, details),
    })
  }

  /**
   * Only a point that is whole, as far as can be told without reading it, may take the place of what is there: every chunk is in
   * a pack that is there, with its size.
   */
  async clearTheWay(over: NonNullable<Options['over']>): Promise<void> {
    for await (const entries of this.selected()) for (const entry of entries) await this.requireChunks(entry)
    over.changing()
    this.removed = await sweepTarget(this.each(), this.target, {
      signal: this.options.signal,
      // Where only some entries are looked at, the others are not known to be foreign.
      removeOthers: this.options.select === undefined && this.options.wants === undefined,
      keep: over.keep,
      warn: (path, details) => this.warnAttributes({ path }, details),
    })
  }

  private async requireChunks(entry: Entry): Promise<void> {
    try {
      await this.content.require(entry)
    } catch (error) {
      if (!isLoss(error)) throw error
      throw new RegainError(
        'repository-damaged',
        `${displayPath(entry.path)} of the point is lost: ${error.message} Nothing was changed.`,
        { cause: error, hint: 'Restore another point. Which are hurt, and what mends them, says: regain verify' },
      )
    }
  }

  async writeFiles(): Promise<void> {
    const last: Entry[] = []
    try {
      for await (const entries of this.selected())
        for (const entry of entries) {
          if (entry.type === 'directory') this.makeDirectory(entry.path)
          else if (entry.hardLink !== undefined) this.hasHardLinks = true
          else if (entry.type !== 'file') continue
          else if (this.options.last?.(entry)) last.push(entry)
          else await this.content.writeFile(entry)
        }
      await this.content.finish()
      if (last.length > 0) await this.writeLast(last)
    } finally {
      await this.content.settle()
    }
    this.content.throwIfFailed()
  }

  private makeDirectory(path: EntryPath): void {
    if (this.options.over === undefined) this.tree.makeDirectory(path)
    else this.tree.takeDirectory(path)
  }

  /** All else is durable first, so that these files are there only if all is; and only if nothing was lost. */
  private async writeLast(entries: readonly Entry[]): Promise<void> {
    if (this.content.hasLost) {
      const detail = 'It was held back, because other files are lost.'
      for (const entry of entries) this.miss({ path: displayPath(entry.path), reason: 'damaged', detail })
      return
    }
    if (this.options.durable !== false) this.tree.syncFilesystem()
    for (const entry of entries) await this.content.writeFile(entry)
    await this.content.finish()
  }

  /** A hard link may lead into any folder, and a folder's mode may lock it: then all links come before all modes. */
  async finishTree(): Promise<void> {
    const others = { withoutFiles: true }
    if (this.hasHardLinks)
      for await (const entries of this.selected(others)) for (const entry of entries) this.makeOther(entry)
    const open: Entry[] = []
    const closeUntil = (path: EntryPath | null) => {
      for (let last = open.at(-1); last && (path === null || !isBelow(path, last.path)); last = open.at(-1)) {
        open.pop()
        if (last.path === '') this.root = last
        else this.warnAttributes(last, this.tree.setAttributes(last, { ownership: this.ownership }))
      }
    }
    for await (const entries of this.selected(others))
      for (const entry of entries) {
        closeUntil(entry.path)
        if (entry.type === 'directory') open.push(entry)
        else if (!this.hasHardLinks) this.makeOther(entry)
      }
    closeUntil(null)
  }

  finishRoot(): void {
    this.tree.removeFile(CLAIM_NAME)
    if (this.root === null) return
    this.warnAttributes(this.root, this.tree.setAttributes(this.root, { ownership: this.ownership }))
  }

  private makeOther(entry: Entry): void {
    if (entry.hardLink !== undefined) this.makeHardLink(entry)
    else if (entry.type !== 'file' && entry.type !== 'directory') this.makeSpecial(entry)
  }

  /** Entries in order, many at a time, each one's folder proven to be a folder of this listing that came before it. */
  private async *selected(part: ListingPart = {}): AsyncGenerator<Iterable<Entry>, void, undefined> {
    const folders: EntryPath[] = []
    for await (const entries of this.listing.leaves({ ...part, wants: this.options.wants }))
      yield this.selectedOf(entries, folders)
  }

  private async *each(): AsyncGenerator<Entry, void, undefined> {
    for await (const entries of this.selected()) yield* entries
  }

  /** `folders`: those that the entry before lies in. */
  private *selectedOf(entries: readonly Entry[], folders: EntryPath[]): Generator<Entry, void, undefined> {
    for (const entry of entries) {
      throwIfInterrupted(this.options.signal)
      this.content.throwIfFailed()
      if (entry.path === CLAIM_NAME) continue
      if (this.options.select && !this.options.select(entry)) continue
      while (folders.length > 0 && !isBelow(entry.path, folders.at(-1) as EntryPath)) folders.pop()
      const parent = entry.path.lastIndexOf('/') === -1 ? '' : entry.path.slice(0, entry.path.lastIndexOf('/'))
      if (entry.path !== '' && parent !== '' && folders.at(-1) !== parent)
        throw new RegainError(
          'repository-damaged',
          `The listing has ${displayPath(entry.path)} without its folder: it is damaged or hostile.`,
        )
      if (entry.type === 'directory') folders.push(entry.path)
      yield entry
    }
  }

  /** Where the first name was lost, so is the content of all others. */
  private makeHardLink(entry: Entry): void {
    const failure = this.tree.createHardLink(entry)
    if (failure === null) return
    const reason = failure.isAbsent ? 'damaged' : 'unsupported'
    this.miss({ path: displayPath(entry.path), reason, detail: failure.detail })
  }

  private makeSpecial(entry: Entry): void {
    const detail = this.tree.createOther(entry)
    if (detail !== null) this.miss({ path: displayPath(entry.path), reason: 'unsupported', detail })
    else this.warnAttributes(entry, this.tree.setAttributes(entry, { ownership: this.ownership }))
  }

  private warnAttributes(entry: Pick<Entry, 'path'>, details: readonly string[]): void {
    for (const detail of details) this.miss({ path: displayPath(entry.path), reason: 'unsupported', detail })
  }

  private miss(missed: Missed): void {
    this.missedCount++
    if (this.missedCount <= MAX_MISSED_KEPT) this.missed.push(missed)
    if (this.missedCount === MAX_MISSED_KEPT + 1)
      this.options.warn(`More than ${MAX_MISSED_KEPT} things could not be restored; only these are listed.`)
  }
}

function isBelow(path: EntryPath, folder: EntryPath): boolean {
  return folder === ''
    ? path !== ''
    : path.length > folder.length && path.startsWith(folder) && path.charCodeAt(folder.length) === 0x2f
}
