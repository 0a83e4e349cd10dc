import type { LogStore } from '../../contract.ts'
import { positionsOf } from '../backup/positions.ts'
import { HollowPages } from './hollow-pages.ts'
import { type GuardedRecovery, TablespaceGuard } from './new-tablespaces.ts'

/** Looks through each segment before a recovering server gets it, and prepares what replaying it needs. */
export interface RecoveryGuard {
  /** Before one is fetched ahead. False: only `admit` can tell, when its turn comes. */
  isHarmless(name: string, segment: Buffer): Promise<boolean>
  /** Before one is handed over. Rejects, `precondition-failed`, if it must not be replayed. */
  admit(name: string, segment: Buffer): Promise<void>
}

/** `directory`: of the data that recovers. */
export function guardRecovery(
  recovery: GuardedRecovery,
  directory: string,
  store: LogStore,
  signal: AbortSignal,
): RecoveryGuard {
  const tablespaces = new TablespaceGuard(recovery, store, signal)
  if (recovery.hollow === undefined) return tablespaces
  const pages = new HollowPages(directory, recovery.hollow, positionsOf(recovery.point).major, store)
  return {
    async isHarmless(name, segment) {
      if (!(await tablespaces.isHarmless(name, segment))) return false
      await pages.prepare(name, segment)
      return true
    },
    async admit(name, segment) {
      await tablespaces.admit(name, segment)
      await pages.prepare(name, segment)
    },
  }
}
