import { isRegainError } from '../../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import type { BasePoint } from '../contract.ts'

/**
 * File systems stamp changes by a clock that stands still for up to 10 ms (Linux, CONFIG_HZ=100): a file changed twice
 * within one tick, and read in between, would look unchanged. Times of whole seconds come from coarser file systems.
 */
const TICK_NS = 20_000_000n
const COARSE_TICK_NS = 2_000_000_000n

/** The previous listing, read alongside the walk: both are in the order of comparePaths, so one look ahead is enough. */
export class BaseEntries {
  readonly #entries: AsyncIterator<Entry>
  readonly #startedNs: bigint
  readonly #warn: (message: string) => void
  #current: Entry | null = null
  #ended = false

  constructor(base: BasePoint, warn: (message: string) => void) {
    this.#entries = base.entries()
    this.#startedNs = BigInt(Date.parse(base.point.startedAt)) * 1_000_000n
    this.#warn = warn
  }

  /** The entry of the previous point at this path, or null. Paths must be asked for in ascending order. */
  async find(path: EntryPath): Promise<Entry | null> {
    while (!this.#ended && (this.#current === null || comparePaths(this.#current.path, path) < 0)) await this.#advance()
    return this.#current?.path === path ? this.#current : null
  }

  /**
   * Whether the file is certainly the one that `base` describes. Its inode is compared, so that a file put in its place
   * with the same times is noticed; the device number is not: it is given at mount time and changes with a reboot, and a
   * change time equal to the nanosecond rules another file system out. The change time can't be set by programs.
   */
  isUnchanged(entry: Entry, base: Entry): boolean {
    return (
      base.type === 'file' &&
      base.hardLink === undefined &&
      base.damaged === undefined &&
      base.size === entry.size &&
      base.inode !== undefined &&
      base.inode === entry.inode &&
      base.mtime === entry.mtime &&
      base.ctime !== undefined &&
      base.ctime === entry.ctime &&
      this.#wasSettled(base.ctime)
    )
  }

  async close(): Promise<void> {
    this.#ended = true
    this.#current = null
    await this.#entries.return?.()
  }

  /** Last changed long enough before the previous backup began: a change after it was read has another time. */
  #wasSettled(ctime: string): boolean {
    const changedNs = BigInt(ctime)
    const tick = changedNs % 1_000_000_000n === 0n ? COARSE_TICK_NS : TICK_NS
    return changedNs + tick < this.#startedNs
  }

  async #advance(): Promise<void> {
    try {
      const step = await this.#entries.next()
      this.#current = step.done ? null : step.value
      this.#ended = step.done === true
    } catch (error) {
      // Damage to the old point must not keep a new one from being taken; reading all is always right.
      if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
      this.#warn(
        `The listing of the previous point cannot be read (${error.message}). All files from here on are read.`,
      )
      this.#current = null
      this.#ended = true
    }
  }
}
