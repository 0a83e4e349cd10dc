import type { LogStore } from '../../contract.ts'

/** Size from which a tail's last piece no longer grows, and with which the next begins. */
const PIECE_BYTES = 256 * 1024
const LAST_PIECE_BYTES = 8 * 1024

export interface TailOptions {
  store: LogStore
  branch: string
  name: string
  /** Bytes that the store holds of this segment already, and up to when they are complete, ms. */
  stored: Buffer
  untilMs: number
  /** How old an idle tail's `until` in the store may become, ms. */
  idleMs: number
}

/**
 * Ships one unfinished segment's bytes. Its last piece grows in place until it is of some size, and then another begins:
 * so a slow log makes few objects, and what is written again each time stays small. When nothing comes the last piece is
 * written again now and then, because its `until` says up to when nothing happened. Calls must not overlap.
 */
export class TailWriter {
  readonly #options: TailOptions
  #known: Buffer
  #shipped: number
  #shippedUntilMs: number
  /** Where the growing piece begins. What an earlier run left in pieces becomes one as soon as there is more of it. */
  #pieceStart = 0

  constructor(options: TailOptions) {
    this.#options = options
    this.#known = options.stored
    this.#shipped = options.stored.length
    this.#shippedUntilMs = options.untilMs
  }

  /**
   * Pair assertion: false if what the store held does not begin `segment`, of which `filled` bytes have come. Says so
   * once, as soon as enough has come.
   */
  agrees(segment: Buffer, filled: number): boolean {
    const known = this.#known
    if (known.length === 0 || filled < known.length) return true
    this.#known = Buffer.alloc(0)
    return segment.subarray(0, known.length).equals(known)
  }

  /** Removes what the store holds of this segment. */
  async drop(): Promise<void> {
    const { store, branch, name } = this.#options
    await store.dropTails(branch, name)
    this.#shipped = 0
    this.#pieceStart = 0
  }

  /** Makes the first `filled` bytes of `segment` durable, complete until `untilMs`. False if there was nothing to do. */
  async ship(segment: Buffer, filled: number, untilMs: number): Promise<boolean> {
    const from = this.#pieceStart
    if (filled <= from || filled < this.#shipped) return false
    if (filled === this.#shipped && untilMs < this.#shippedUntilMs + this.#options.idleMs) return false
    const last = filled - from > PIECE_BYTES ? filled - LAST_PIECE_BYTES : from
    // The end first: what is there at `from` may reach further than `last`, and must not become shorter before.
    await this.#put(segment.subarray(last, filled), last, untilMs)
    if (last > from) await this.#put(segment.subarray(from, last), from, untilMs)
    this.#shipped = filled
    this.#shippedUntilMs = untilMs
    this.#pieceStart = last
    return true
  }

  #put(bytes: Buffer, offset: number, untilMs: number): Promise<void> {
    const { store, branch, name } = this.#options
    return store.putTail(branch, name, offset, bytes, { until: new Date(untilMs).toISOString() })
  }
}
