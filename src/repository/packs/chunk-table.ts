import { RegainError } from '../../errors.ts'
import { homeSlot, slotsFor, word } from './slots.ts'

/**
 * Where each chunk is that the repository holds: an open-addressing table in shared memory, of as many slots as its chunks
 * need (30 MB a million), read by every thread without a lock once it is built. 24 bytes a slot:
 *
 *   words 0-2  first 96 bits of the chunk id (ids are HMACs: a chance match needs 2^48 chunks)
 *   word 3     pack number << 12 | group number, plus 1: 0 means empty
 *   word 4     offset in the raw group
 *   word 5     length
 */
const SLOT_WORDS = 6

/** Slot word 3 has 20 bits for the pack: 28 TiB of full ones (format/pack.ts). */
export const MAX_PACKS = 2 ** 20 - 1

export interface ChunkLocation {
  pack: number
  group: number
  offset: number
  length: number
}

export class ChunkTable {
  /** How many slots there are. */
  readonly slotCount: number
  private readonly buffer: SharedArrayBuffer
  private readonly words: Uint32Array
  private used = 0

  private constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer
    this.words = new Uint32Array(buffer)
    this.slotCount = this.words.length / SLOT_WORDS
  }

  /** Room for so many chunks and no more. */
  static create(chunks: number): ChunkTable {
    return new ChunkTable(new SharedArrayBuffer(slotsFor(chunks) * SLOT_WORDS * 4))
  }

  /** The same table in another thread: post `share()` to it, once all is added. */
  static attach(buffer: SharedArrayBuffer): ChunkTable {
    return new ChunkTable(buffer)
  }

  share(): SharedArrayBuffer {
    return this.buffer
  }

  has(id: Uint8Array): boolean {
    return this.words[this.find(id) + 3] !== 0
  }

  get(id: Uint8Array): ChunkLocation | null {
    const slot = this.find(id)
    const place = this.words[slot + 3] as number
    if (place === 0) return null
    return {
      pack: (place - 1) >>> 12,
      group: (place - 1) & 0xfff,
      offset: this.words[slot + 4] as number,
      length: this.words[slot + 5] as number,
    }
  }

  /** Number of the slot that holds the id, below slotCount, or -1. */
  slotOf(id: Uint8Array): number {
    const slot = this.find(id)
    return this.words[slot + 3] === 0 ? -1 : slot / SLOT_WORDS
  }

  /** Adds or keeps (the first copy wins). For the thread that created the table. `pack` < MAX_PACKS, `group` < 2^12. */
  add(id: Uint8Array, location: ChunkLocation): void {
    if (location.pack >= MAX_PACKS)
      throw new RegainError(
        'repository-version',
        `The repository has more than ${MAX_PACKS} packs: too many for this version.`,
      )
    const slot = this.find(id)
    if (this.words[slot + 3] !== 0) return
    // One slot stays empty, always: a search ends there.
    if (++this.used >= this.slotCount) throw new Error('more chunks than the table was made for')
    this.words[slot] = word(id, 0)
    this.words[slot + 1] = word(id, 4)
    this.words[slot + 2] = word(id, 8)
    this.words[slot + 3] = ((location.pack << 12) | location.group) + 1
    this.words[slot + 4] = location.offset
    this.words[slot + 5] = location.length
  }

  /** Word offset of the id's slot, or of the empty one where it would go. */
  private find(id: Uint8Array): number {
    const { words, slotCount } = this
    const a = word(id, 0)
    const b = word(id, 4)
    const c = word(id, 8)
    for (let index = homeSlot(a, slotCount); ; index = index + 1 === slotCount ? 0 : index + 1) {
      const slot = index * SLOT_WORDS
      if (words[slot + 3] === 0) return slot
      if (words[slot] === a && words[slot + 1] === b && words[slot + 2] === c) return slot
    }
  }
}
