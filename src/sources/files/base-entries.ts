import { isRegainError } from '../../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../../model.ts'
import type { BasePoint } from '../contract.ts'

/**
 * File systems stamp changes by a clock that stands still for up to 10 ms (Linux, CONFIG_HZ=100): a file changed twice
 * within one tick, and read in between, would look unchanged. Times of whole seconds come from coarser file systems.
 */
const TICK_NS = 20_000_000n
const COARSE_TICK_NS = 2_000_000_000n
/** Many times the ticks, and what a double is wrong by. */
const LONG_NS = 60e9

/** The previous listing, read alongside the walk: both are in the order of comparePaths, so one look ahead is enough. */
export class BaseEntries {
  readonly #leaves: AsyncIterator<readonly Entry[]>
  readonly #startedNs: bigint
  readonly #longBeforeNs: number
  readonly #warn: (message: string) => void
  #leaf: readonly Entry[] = []
  #next = 0
  #ended = false

  constructor(base: BasePoint, warn: (message: string) => void) {
    this.#leaves = base.leaves()
    this.#startedNs = BigInt(Date.parse(base.point.startedAt)) * 1_000_000n
    this.#longBeforeNs = Number(this.#startedNs) - LONG_NS
    this.#warn = warn
  }

  /**
   * Goes to the entries at and behind this path; null if that needs no wait. To be called, and awaited, before `find`.
   * Paths must be asked for in ascending order.
   */
  advance(path: EntryPath): Promise<void> | null {
    this.#skipTo(path)
    return this.#ended || this.#next < this.#leaf.length ? null : this.#readTo(path)
  }

  /** The entry of the previous point at this path, to which `advance` went, or null. */
  find(path: EntryPath): Entry | null {
    const entry = this.#leaf[this.#next]
    return entry?.path === path ? entry : null
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
    this.#end()
    await this.#leaves.return?.()
  }

  /** Last changed long enough before the previous backup began: a change after it was read has another time. */
  #wasSettled(ctime: string): boolean {
    // Long ago, which doubles tell well enough and at less cost.
    if (Number(ctime) < this.#longBeforeNs) return true
    const changedNs = BigInt(ctime)
    const tick = changedNs % 1_000_000_000n === 0n ? COARSE_TICK_NS : TICK_NS
    return changedNs + tick < this.#startedNs
  }

  #skipTo(path: EntryPath): void {
    for (let entry = this.#leaf[this.#next]; entry !== undefined; entry = this.#leaf[++this.#next])
      if (comparePaths(entry.path, path) >= 0) return
  }

  async #readTo(path: EntryPath): Promise<void> {
    while (!this.#ended && this.#next === this.#leaf.length) {
      await this.#read()
      this.#skipTo(path)
    }
  }

  async #read(): Promise<void> {
    try {
      const step = await this.#leaves.next()
      if (step.done === true) return this.#end()
      this.#leaf = step.value
      this.#next = 0
    } catch (error) {
      // Damage to the old point must not keep a new one from being taken; reading all is always right.
      if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
      this.#warn(
        `The listing of the previous point cannot be read (${error.message}). All files from here on are read.`,
      )
      this.#end()
    }
  }

  #end(): void {
    this.#ended = true
    this.#leaf = []
    this.#next = 0
  }
}
