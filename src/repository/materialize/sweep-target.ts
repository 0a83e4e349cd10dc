import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { ExistingTree, type Found } from '../../filesystem/existing-tree.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { TargetRoot } from '../../filesystem/target.ts'
import { CLAIM_NAME } from '../../filesystem/target-claim.ts'
import type { Entry, EntryPath } from '../../model.ts'

/** What every file system has of its own where it is mounted. */
const OF_THE_FILE_SYSTEM = 'lost+found'

export interface SweepOptions {
  signal: AbortSignal
  /** False: what the entries do not have stays. True: it goes, but for what stands at the top of a place, which others may share. */
  removeOthers: boolean
  /** What the entries do not have, and stays all the same. */
  keep?: ((path: EntryPath, isDirectory: boolean) => boolean) | undefined
  warn(path: EntryPath, details: readonly string[]): void
}

/**
 * Prepares a target for a restore over what is in it. Afterwards there are only folders and files of one name each where the entries
 * have such, and those of the entries' other kinds are gone: nothing that is written then goes through a link, or into a
 * file that has another name, here or elsewhere. Gives how many things were removed that the entries do not have. Holds the names of the folders
 * from the root to where it is.
 */
export async function sweepTarget(
  entries: AsyncIterable<Entry>,
  target: TargetRoot,
  options: SweepOptions,
): Promise<number> {
  const tree = ExistingTree.open(target)
  try {
    const sweep = new Sweep(tree, target, options)
    for await (const entry of entries) {
      throwIfInterrupted(options.signal)
      sweep.pass(entry)
    }
    sweep.leaveAll()
    return sweep.removed
  } finally {
    tree.close()
  }
}

interface Folder {
  path: EntryPath
  /** What is in the target there and has not come by. Null: there is no such folder yet. */
  left: Set<string> | null
  isPlace: boolean
}

class Sweep {
  removed = 0
  private readonly tree: ExistingTree
  private readonly places: ReadonlySet<EntryPath>
  private readonly options: SweepOptions
  private readonly folders: Folder[] = []

  constructor(tree: ExistingTree, target: TargetRoot, options: SweepOptions) {
    this.tree = tree
    this.places = new Set(target.places.map(({ path }) => path))
    this.options = options
  }

  /** Entries in the order of a listing, a folder before what it holds. */
  pass(entry: Entry): void {
    const { path } = entry
    const slash = path.lastIndexOf('/')
    const parent = slash === -1 ? '' : path.slice(0, slash)
    while (this.folders.length > 0 && (path === '' || this.folders.at(-1)?.path !== parent)) this.leave()
    if (path === '') {
      this.enter(path)
      return
    }
    const folder = this.folders.at(-1)
    const isThere = folder?.left?.delete(path.slice(slash + 1)) ?? false
    if (this.places.has(path)) {
      this.passPlace(entry, isThere)
      return
    }
    const found = isThere ? this.tree.look(path) : null
    if (found !== null && fits(entry, found)) {
      this.options.warn(path, this.tree.dropXattrs(entry))
      if (entry.type === 'directory') this.enter(path)
      return
    }
    if (found !== null) this.makeRoom(path)
    if (entry.type === 'directory') this.folders.push({ path, left: null, isPlace: false })
  }

  leaveAll(): void {
    while (this.folders.length > 0) this.leave()
  }

  /** What links there in the target is the caller's; a folder is in its way. */
  private passPlace({ path }: Entry, isThere: boolean): void {
    if (isThere && this.tree.look(path)?.kind === 'directory') this.makeRoom(path)
    this.folders.push({ path, left: new Set(this.tree.names(path)), isPlace: true })
  }

  private enter(path: EntryPath): void {
    this.folders.push({ path, left: new Set(this.tree.names(path)), isPlace: false })
  }

  private leave(): void {
    const { path, left, isPlace } = this.folders.pop() as Folder
    if (left === null || isPlace || !this.options.removeOthers) return
    for (const name of left) {
      if (path === '' && (name === CLAIM_NAME || name === OF_THE_FILE_SYSTEM)) continue
      this.removeOther(path === '' ? name : `${path}/${name}`)
    }
  }

  private removeOther(path: EntryPath): void {
    const { keep } = this.options
    if (keep?.(path, this.tree.look(path)?.kind === 'directory')) return
    const mounted = this.tree.remove(path)
    for (const one of mounted)
      this.options.warn(one, ['the point does not have it; it stays, since another file system is mounted there'])
    if (mounted.length === 0) this.removed++
  }

  private makeRoom(path: EntryPath): void {
    const [mounted] = this.tree.remove(path)
    if (mounted === undefined) return
    throw new RegainError(
      'precondition-failed',
      `Another file system is mounted at ${displayPath(mounted)} in the target, where the point has something else. It was not touched.`,
      { hint: 'Unmount it, and run the command again.' },
    )
  }
}

function fits(entry: Entry, found: Found): boolean {
  if (entry.type === 'directory') return found.kind === 'directory'
  // Of a sparse file the holes count too, and of one with several names each of them is written.
  const isPlain = entry.type === 'file' && entry.hardLink === undefined && entry.extents === undefined
  return isPlain && found.kind === 'file' && found.links === 1 && found.isOpen
}
