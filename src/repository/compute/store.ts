import { chunkId, chunkIdPair, type DomainKeys } from '../format/domain-keys.ts'
import { METADATA_PACK_BYTES } from '../format/pack.ts'
import { ChunkTable } from '../packs/chunk-table.ts'
import { Chunker, DUMP_CHUNKS, FILE_CHUNKS, gearTable } from '../packs/chunker.ts'
import { ClaimTable } from '../packs/claim-table.ts'
import { type FinishedPack, PackBuilder } from '../packs/pack-builder.ts'
import type { BeginSessionJob } from './messages.ts'
import { Pace } from './pace.ts'

/**
 * Packs of one thread that may wait to be stored; beyond it the thread waits. A disk takes one while the next is filled;
 * a store far away answers later, and takes more from several connections.
 */
const PACKS_IN_FLIGHT = { local: 1, remote: 2 }

/** One thread's share of a writing session: chunk, identify, leave out what is known, hand the rest to packs. */
export class SessionStore {
  readonly chunker: Chunker
  readonly dumpChunker: Chunker
  /** Null: nothing is limited. */
  readonly pace: Pace | null
  private readonly keys: DomainKeys
  private readonly base: ChunkTable
  private readonly claims: ClaimTable
  private readonly data: PackBuilder
  private readonly metadata: PackBuilder
  private readonly spare: ArrayBuffer[]
  private readonly maxInFlight: number
  private inFlight = 0
  private waiting: (() => void) | null = null

  constructor(
    keys: DomainKeys,
    job: BeginSessionJob,
    randomBytes: (size: number) => Buffer,
    finished: (pack: FinishedPack) => void,
    { isLocal, spare = [] }: { isLocal: boolean; spare?: ArrayBuffer[] | undefined },
  ) {
    this.spare = spare
    this.maxInFlight = isLocal ? PACKS_IN_FLIGHT.local : PACKS_IN_FLIGHT.remote
    this.keys = keys
    this.pace = job.pace && new Pace(job.pace)
    this.chunker = new Chunker(gearTable(keys.chunker), FILE_CHUNKS)
    this.dumpChunker = new Chunker(gearTable(keys.chunker), DUMP_CHUNKS)
    this.base = ChunkTable.attach(job.base)
    this.claims = ClaimTable.attach(job.claims)
    const options = {
      keys,
      randomBytes,
      level: job.level,
      takeBuffer: (bytes: number) => this.takeBuffer(bytes),
      finished: (pack: FinishedPack) => {
        this.inFlight++
        finished(pack)
      },
    }
    this.data = new PackBuilder({ ...options, packBytes: job.packBytes })
    this.metadata = new PackBuilder({ ...options, packBytes: METADATA_PACK_BYTES })
  }

  /** The main thread has stored a pack. */
  returnBuffer(buffer: ArrayBuffer): void {
    this.inFlight--
    this.spare.push(buffer)
    this.waiting?.()
    this.waiting = null
  }

  /** Await it before each chunk: holds the thread back while its packs wait to be stored. */
  room(): Promise<void> | null {
    if (this.inFlight < this.maxInFlight) return null
    return new Promise((resolve) => {
      this.waiting = resolve
    })
  }

  /** Stores one chunk unless it is known; its id either way. Copies the bytes. */
  put(bytes: Uint8Array, metadata: boolean): Buffer {
    return this.putAs(this.identify(bytes), bytes, metadata)
  }

  identify(bytes: Uint8Array): Buffer {
    return chunkId(this.keys, bytes)
  }

  /** Ids of two chunks of one length whose first `same` bytes are equal: cheaper than one after the other. */
  identifyPair(a: Uint8Array, b: Uint8Array, same: number): [a: Buffer, b: Buffer] {
    return chunkIdPair(this.keys, a, b, same)
  }

  /** The same as `put` where the id is known. */
  putAs(id: Buffer, bytes: Uint8Array, metadata: boolean): Buffer {
    if (!this.base.has(id) && this.claims.claim(id)) (metadata ? this.metadata : this.data).add(id, bytes)
    this.pace?.compute()
    return id
  }

  flush({ dataOnly }: { dataOnly: boolean }): void {
    this.data.flush()
    if (!dataOnly) this.metadata.flush()
  }

  private takeBuffer(bytes: number): ArrayBuffer {
    const index = this.spare.findIndex(({ byteLength }) => byteLength === bytes)
    return (index < 0 ? undefined : this.spare.splice(index, 1)[0]) ?? new ArrayBuffer(bytes)
  }
}
