import { isRegainError, type RegainError } from '../../../errors.ts'
import type { LogStore } from '../../contract.ts'
import type { Lsn } from '../protocol/lsn.ts'
import { branchName, conflictName, segmentName, segmentNumber } from './wal.ts'

export interface SegmentWriterRequest {
  store: LogStore
  timeline: number
  segmentBytes: number
  /** The store has other bytes of this segment. Nothing was changed. */
  conflict(segment: string, error: RegainError): void
}

/** Puts the whole segments of one timeline into the store, in the order of the log. */
export class SegmentWriter {
  readonly #request: SegmentWriterRequest
  #lastStored: string | null = null

  constructor(request: SegmentWriterRequest) {
    this.#request = request
  }

  nameOf(start: Lsn): string {
    const { segmentBytes, timeline } = this.#request
    return segmentName(timeline, segmentNumber(start, segmentBytes), segmentBytes)
  }

  /** Durable when it resolves, its tails gone; also when the store refused it, which `conflict` has heard of. */
  async store(start: Lsn, bytes: Buffer, untilMs: number): Promise<void> {
    const { store, timeline } = this.#request
    const name = this.nameOf(start)
    const branch = branchName(timeline)
    try {
      const until = new Date(untilMs).toISOString()
      const follows = await this.#segmentBefore(start)
      await store.putSegment(branch, name, bytes, { until, ...(follows ? { follows } : {}) })
      await store.dropTails(branch, name)
    } catch (error) {
      if (!isRegainError(error, 'log-conflict')) throw error
      await this.#noteConflict(name, error)
    }
    this.#lastStored = name
  }

  /** Name of the segment before this one if the store has it. */
  async #segmentBefore(start: Lsn): Promise<string | null> {
    if (this.#lastStored !== null) return this.#lastStored
    if (start === 0n) return null
    const name = this.nameOf(start - BigInt(this.#request.segmentBytes))
    const { store, timeline } = this.#request
    return (await store.holds(branchName(timeline), name)) ? name : null
  }

  /**
   * Nobody can say which bytes are right, so neither are touched; a note keeps recovery from crossing the segment. The
   * position counts as done all the same: holding the server's WAL back for ever would fill its disk and help nobody.
   */
  async #noteConflict(name: string, error: RegainError): Promise<void> {
    this.#request.conflict(name, error)
    const note = Buffer.from(`${JSON.stringify({ segment: name })}\n`)
    await this.#request.store.putHistory(conflictName(name), note)
  }
}
