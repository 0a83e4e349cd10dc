import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { PrunePlan, PruneReport, PruneRequest } from '../../src/repository/api.ts'
import { PREFIX } from '../../src/repository/format/object-names.ts'
import { type FaultyRepository, faultyRepository } from './faulty-repository.ts'
import { backUp, readTree, SOURCE, someBytes, uninterrupted, writeTree } from './repository.ts'

const HOUR_MS = 3_600_000

/** A repository to prune, and the few words in which tests say what. */
export interface Pruning {
  readonly made: FaultyRepository
  /** What points are made of. */
  readonly tree: string
  plan(expire?: string[], more?: Partial<PruneRequest>): Promise<PrunePlan>
  carryOut(planned: PrunePlan): Promise<PruneReport>
  prune(expire?: string[], more?: Partial<PruneRequest>): Promise<PruneReport>
  /** Of a file that it has for itself, `name`, and one that all share. */
  addPoint(name: string, bytes?: number, source?: string): Promise<{ id: string; expected: Map<string, string> }>
  /** The clock that sessions, pins and records are dated by, so many hours later. */
  laterBy(hours: number): void
  /** Points that there is a record of removal of. */
  expired(): string[]
}

export async function openPruning(): Promise<Pruning> {
  const made = await faultyRepository()
  const tree = join(made.folder, 'tree')
  const pruning: Pruning = {
    made,
    tree,
    plan: async (expire = [], more = {}) =>
      made.repository.planPrune({
        expire: expire.map((id) => ({ id, reason: 'a test' })),
        trimLog: [],
        weighed: (await made.repository.points()).map(({ id }) => id),
        signal: uninterrupted(),
        progress: () => undefined,
        ...more,
      }),
    carryOut: (planned) => made.repository.prune(planned, { signal: uninterrupted(), progress: () => undefined }),
    prune: async (expire, more) => pruning.carryOut(await pruning.plan(expire, more)),
    addPoint: async (name, bytes = 300_000, source = SOURCE) => {
      writeTree(tree, { shared: someBytes('shared', 150_000), [name]: someBytes(name, bytes) })
      const { point } = await backUp(made.repository, tree, { source })
      const expected = readTree(tree)
      rmSync(join(tree, name))
      return { id: point.id, expected }
    },
    laterBy: (hours) => {
      const { now } = made.ambient
      made.ambient.now = () => now() + hours * HOUR_MS
    },
    expired: () => made.names(PREFIX.expired).map((name) => name.slice(PREFIX.expired.length, -33)),
  }
  return pruning
}
