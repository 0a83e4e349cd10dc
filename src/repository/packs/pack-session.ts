import { tidy } from '../cleanup.ts'
import type { StoredBytes } from '../compute/messages.ts'
import { packTargetBytes } from '../format/pack.ts'
import type { RepositoryState } from '../repository-state.ts'
import { ChunkTable } from './chunk-table.ts'
import { ClaimTable } from './claim-table.ts'
import { PackStore } from './pack-store.ts'

/** zstd level, as of new data: docs/decisions/0003. */
const LEVEL = 2

/**
 * Stores chunks that are known already, as they are, in new packs with their index entries: for who writes anew what was
 * stored before. Exactly one of `finish` and `giveUp` must follow.
 */
export class PackSession {
  private readonly state: RepositoryState
  private readonly number: number
  private readonly store: PackStore
  private readonly stopListening: () => void
  private failure: { error: unknown } | null = null

  /** `packCount`: of the repository. `fromReserve`: as of a store's writes. */
  constructor(
    state: RepositoryState,
    signal: AbortSignal,
    { packCount, fromReserve = false }: { packCount: number; fromReserve?: boolean },
  ) {
    this.state = state
    this.number = state.pool.newSession()
    const failed = (error: unknown) => {
      this.failure ??= { error }
    }
    this.store = new PackStore(state, signal, failed, { fromReserve })
    this.stopListening = state.pool.onPack(this.number, (pack, giveBack) => this.store.take(pack, giveBack))
    state.pool.begin({
      type: 'begin-session',
      session: this.number,
      base: ChunkTable.create(0).share(),
      claims: ClaimTable.create().share(),
      level: LEVEL,
      packBytes: packTargetBytes(packCount),
      pace: null,
    })
  }

  get storedBytes(): number {
    return this.store.storedBytes
  }

  /** Chunks end to end in `buffer`, which is gone then. Gives their ids. Durable only after `finish`. */
  async put(buffer: ArrayBuffer, lengths: readonly number[], metadata: boolean): Promise<Uint8Array> {
    this.throwIfFailed()
    const parts = lengths.map((length) => ({ length, chunking: 'one' as const }))
    const job = { type: 'bytes', session: this.number, buffer, parts, metadata } as const
    return (await this.state.pool.run<StoredBytes>(job, [buffer])).ids
  }

  /** What was put so far is durable, and indexed, when it resolves. More may follow. */
  async flush(): Promise<void> {
    await this.state.pool.flush({ type: 'flush', session: this.number })
    await this.store.finish()
    this.throwIfFailed()
  }

  /** All is durable, and indexed, when it resolves. */
  async finish(): Promise<void> {
    try {
      await this.flush()
    } catch (error) {
      await this.giveUp()
      throw error
    }
    await this.end()
  }

  /** After a failure. What is stored already is indexed, if that can be, and serves whoever goes on. */
  async giveUp(): Promise<void> {
    this.state.pool.drop(this.number)
    // The failure that led here is what is told. Packs that could not be indexed now nothing names: a prune removes them.
    await tidy((signal) => this.store.salvage(signal)).catch(() => undefined)
    await this.end()
  }

  throwIfFailed(): void {
    if (this.failure) throw this.failure.error
  }

  private async end(): Promise<void> {
    this.stopListening()
    await this.state.pool.end({ type: 'end-session', session: this.number })
  }
}
