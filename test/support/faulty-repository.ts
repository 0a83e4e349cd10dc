import type { RepositoryState } from '../../src/repository/repository-state.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { type FaultScript, withFaults } from '../../src/storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import { createTestRepository, type TestRepository, temporaryFolder } from './repository.ts'

/** A store in memory whose calls fail as `script` says, and a folder beside it. */
export interface FaultyStore {
  readonly folder: string
  /** What it really holds. */
  readonly memory: MemoryStorage
  readonly storage: Storage
  /** Asked at each call; set it at any time. */
  script: FaultScript
  /** Names of what it holds, sorted. */
  names(prefix: string): string[]
  /** Makes it hold these alone. */
  putBack(objects: ReadonlyMap<string, Buffer>): void
  remove(): void
}

export function faultyStore(): FaultyStore {
  const folder = temporaryFolder()
  const memory = openMemoryStorage()
  const store: FaultyStore = {
    folder: folder.path,
    memory,
    storage: withFaults(memory, (call) => store.script(call)),
    script: () => null,
    names: (prefix) => [...memory.objects.keys()].filter((name) => name.startsWith(prefix)).sort(),
    putBack: (objects) => {
      memory.objects.clear()
      for (const [name, bytes] of objects) memory.objects.set(name, bytes)
    },
    remove: () => folder.remove(),
  }
  return store
}

export interface FaultyRepository extends FaultyStore, TestRepository {
  /** What the engine knows of it: for tests that do what only a program of another host would. */
  readonly state: RepositoryState
  close(): Promise<void>
}

export async function faultyRepository(): Promise<FaultyRepository> {
  const store = faultyStore()
  const made = await createTestRepository(store.storage, store.folder, 1)
  const { state } = made.repository as unknown as { state: RepositoryState }
  const close = async () => {
    await made.repository.close()
    store.remove()
  }
  return Object.assign(store, made, { state, close })
}
