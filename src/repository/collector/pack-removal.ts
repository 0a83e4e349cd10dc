import { isRegainError } from '../../errors.ts'
import type { Progress } from '../../model.ts'
import { ROOM_ASIDE_BYTES } from '../../storage/contract.ts'
import type { PlannedPack, PrunePlan, PruneReport } from '../api.ts'
import { packName } from '../format/object-names.ts'
import { retireGenerations } from '../generations.ts'
import { isRekeying, oldUsers } from '../keys/epochs.ts'
import { lockedUntil, untilText } from '../points/locks.ts'
import type { RepositoryState } from '../repository-state.ts'
import { neededBytes } from './classify.ts'
import { mergeIndex } from './merge-index.ts'
import { type Generation, publishGeneration, readNewest } from './publish-generation.ts'
import { type Removal, removeMarked } from './remove-packs.ts'
import { repackSparse } from './repack.ts'
import { openSessions } from './sessions.ts'
import { waitsFor } from './waits.ts'

const OLD_USERS =
  'A backup or a restore that began before the last rekey is running: packs are removed when it has ended.'
const ANOTHER = 'Another prune runs at the same time: it removes what this one would have.'
const NO_ROOM =
  'The destination was too full to write anew what is still needed of packs that are mostly not: the next prune does that.'

/** The planned packs of one prune on their way out; the report is filled as it goes. */
export class PackRemoval {
  private readonly removal: Required<Removal>
  private readonly plan: PrunePlan
  private readonly report: PruneReport
  /** By name, of all that are planned and there. */
  private readonly sizes: Map<string, number>
  /** Names of those that the store keeps immutable for now. */
  private readonly locked = new Set<string>()

  constructor(
    state: RepositoryState,
    plan: PrunePlan,
    report: PruneReport,
    options: { signal: AbortSignal; progress(progress: Progress): void },
  ) {
    this.plan = plan
    this.report = report
    this.removal = { state, ...options, locked: (name) => void this.locked.add(name) }
    this.sizes = new Map([...plan.packs.remove, ...plan.packs.repack].map(({ name, bytes }) => [name, bytes]))
  }

  /** As the newest generation's own collector, which reads and deletes only: where nothing can be written. */
  async removeMarkedBefore(): Promise<void> {
    const { state, signal } = this.removal
    if (await this.isHeldUp()) return
    const newest = await readNewest(state, signal)
    const open = await openSessions(state, signal)
    if (!newest.isAll && open.every(({ generation }) => generation >= newest.number)) await this.remove(newest)
  }

  /** `isFull`: then little is written anew at a time. */
  async run({ isFull }: { isFull: boolean }): Promise<void> {
    const { state, signal } = this.removal
    if (await this.isHeldUp()) return void this.report.waits.push(OLD_USERS)
    if (this.sizes.size === 0) return
    const wanted = new Set(this.plan.packs.remove.map(({ name }) => name))
    let isTight = isFull
    if ((await openSessions(state, signal)).length === 0) {
      const written = isTight ? null : await this.repack(this.plan.packs.repack)
      isTight = written === null
      for (const name of written ?? []) wanted.add(name)
    } else {
      isTight = false
      // Those that began since the newest generation use nothing of it: what it marks can go now, all else is marked.
      const newest = await readNewest(state, signal)
      const since = await openSessions(state, signal)
      if (!newest.isAll && since.every(({ generation }) => generation >= newest.number)) await this.remove(newest)
      for (const { name, why } of this.plan.packs.remove) if (why === 'unindexed') wanted.delete(name)
    }
    await this.markAndRemove(wanted)
    if (isTight) await this.repackBitByBit()
    if (this.locked.size > 0) this.report.waits.push(await lockedPacks(state, [...this.locked], signal))
    for (const [name, bytes] of this.sizes) if (wanted.has(name)) this.report.bytesLater += bytes
  }

  /** Where there is no room it is left: the index is as good unmerged. */
  async mergeIndex(): Promise<void> {
    const { state, signal } = this.removal
    try {
      this.report.bytesFreed += await mergeIndex(state, { looksForGone: this.report.packs.removed > 0, signal })
    } catch (error) {
      if (!isRegainError(error, 'storage-full')) throw error
    }
  }

  private async isHeldUp(): Promise<boolean> {
    const { state, signal } = this.removal
    return isRekeying(state) && (await oldUsers(state, signal)).length > 0
  }

  /** Resolves with what is no longer needed, as the rest of it was written anew; null: the store is full. */
  private async repack(
    packs: readonly PlannedPack[],
    options: { fromReserve?: boolean } = {},
  ): Promise<string[] | null> {
    try {
      const written = await repackSparse(this.removal, packs, options)
      this.report.packs.repacked += written.packs.length
      this.report.bytesFreed -= written.bytesWritten
      return written.packs
    } catch (error) {
      if (!isRegainError(error, 'storage-full')) throw error
      // What was written is in no index, or there twice: the next prune removes it, or the old one.
      return null
    }
  }

  /** What little is needed of each, into the room that was set aside, then into what that freed. */
  private async repackBitByBit(): Promise<void> {
    const left = [...this.plan.packs.repack].sort((a, b) => neededBytes(a) - neededBytes(b))
    for (let room = ROOM_ASIDE_BYTES / 4; left.length > 0; ) {
      const batch: PlannedPack[] = []
      let bytes = 0
      while (left[0] && bytes + neededBytes(left[0]) <= room) {
        bytes += neededBytes(left[0])
        batch.push(left.shift() as PlannedPack)
      }
      const written = batch.length > 0 ? await this.repack(batch, { fromReserve: true }) : null
      const freedBefore = this.report.bytesFreed
      if (written) await this.markAndRemove(new Set(written))
      const freed = this.report.bytesFreed - freedBefore
      if (freed <= 0) return void this.report.waits.push(NO_ROOM)
      room += Math.floor(freed / 2)
    }
  }

  private async markAndRemove(wanted: ReadonlySet<string>): Promise<void> {
    const { state, signal } = this.removal
    const generation = await publishGeneration(state, wanted, signal)
    if (!generation) return void this.report.waits.push(ANOTHER)
    const blocking = (await openSessions(state, signal)).filter((session) => session.generation < generation.number)
    this.report.waits.push(...waitsFor(blocking))
    if (blocking.length > 0) return
    await this.remove(generation)
    await retireGenerations(state, generation.number, signal)
  }

  private async remove(generation: Generation): Promise<void> {
    for (const { name, sizeBytes } of await removeMarked(this.removal, generation, new Set(this.sizes.keys()))) {
      this.sizes.delete(name)
      this.report.packs.removed++
      this.report.bytesFreed += sizeBytes
    }
  }
}

/** One is looked at for all: locks that were set in one month end together. */
async function lockedPacks(
  state: RepositoryState,
  [first = '', ...more]: string[],
  signal: AbortSignal,
): Promise<string> {
  const until = untilText([await lockedUntil(state, packName(first), signal)])
  const what = more.length === 0 ? 'A pack of data is' : `${more.length + 1} packs of data are`
  return `${what} locked${until}: removed by the first prune after that.`
}
