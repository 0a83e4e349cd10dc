import { RegainError } from '../../errors.ts'

/**
 * Where each known chunk is: an open-addressing table in shared memory, read by every thread without a lock once it is
 * built. 24 bytes a slot:
 *
 *   words 0-2  first 96 bits of the chunk id (ids are HMACs: a chance match needs 2^48 chunks)
 *   word 3     pack number << 12 | group number, plus 1: 0 means empty
 *   word 4     offset in the raw group
 *   word 5     length
 *
 * Two of them serve a backup: the *base* is what the repository held when the session began, immutable while in use; the
 * *claims* are chunks that the session's own threads have taken on. A claim makes the chunk the claimant's to
 * store and lets every other thread leave it out: the session commits only when every claimed chunk is durable.
 */
const SLOT_WORDS = 6
const INITIAL_SLOTS = 1 << 12
/** 2^26 slots, 1.5 GiB: some 45 million chunks in one session or repository index. Address space, not memory. */
const MAX_BYTES = (1 << 26) * SLOT_WORDS * 4

/** Slot word 3 has 20 bits for the pack: 32 TiB of full ones. */
export const MAX_PACKS = 2 ** 20 - 1

/** The lock and counters of a growing table, in shared memory of their own. */
const LOCK = 0
const USED = 1
const SLOTS = 2

export interface ChunkLocation {
  pack: number
  group: number
  offset: number
  length: number
}

export interface SharedTable {
  control: Int32Array
  buffer: SharedArrayBuffer
}

export class ChunkTable {
  private readonly control: Int32Array
  private readonly buffer: SharedArrayBuffer
  private words: Uint32Array

  private constructor(shared: SharedTable) {
    this.control = shared.control
    this.buffer = shared.buffer
    this.words = this.view()
  }

  static create(expectedChunks: number): ChunkTable {
    let slots = INITIAL_SLOTS
    while (slots * 0.7 < expectedChunks) slots *= 2
    const control = new Int32Array(new SharedArrayBuffer(16))
    control[SLOTS] = slots
    const bytes = slots * SLOT_WORDS * 4
    const buffer = new SharedArrayBuffer(bytes, { maxByteLength: Math.max(bytes, MAX_BYTES) })
    return new ChunkTable({ control, buffer })
  }

  /** The same table in another thread: post `share()` to it. */
  static attach(shared: SharedTable): ChunkTable {
    return new ChunkTable(shared)
  }

  share(): SharedTable {
    return { control: this.control, buffer: this.buffer }
  }

  get size(): number {
    return Atomics.load(this.control, USED)
  }

  /** For a table that no thread is changing. */
  has(id: Uint8Array): boolean {
    const slot = this.find(id)
    return this.words[slot + 3] !== 0
  }

  /** For a table that no thread is changing. */
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

  /** How many slots there are; changes when the table grows. */
  get slotCount(): number {
    return this.control[SLOTS] as number
  }

  /** Number of the slot that holds the id, below slotCount, or -1. For a table that no thread is changing. */
  slotOf(id: Uint8Array): number {
    const slot = this.find(id)
    return this.words[slot + 3] === 0 ? -1 : slot / SLOT_WORDS
  }

  /** Adds or keeps (the first copy wins). For one thread that builds the table. `pack` < MAX_PACKS, `group` < 2^12. */
  add(id: Uint8Array, location: ChunkLocation): void {
    if (location.pack >= MAX_PACKS)
      throw new RegainError(
        'repository-version',
        `The repository has more than ${MAX_PACKS} packs: too many for this version.`,
      )
    const slot = this.find(id)
    if (this.words[slot + 3] !== 0) return
    writeId(this.words, slot, id)
    this.words[slot + 3] = ((location.pack << 12) | location.group) + 1
    this.words[slot + 4] = location.offset
    this.words[slot + 5] = location.length
    this.count()
  }

  /** True if this call took the chunk on, false if some thread had before. Safe from any number of threads. */
  claim(id: Uint8Array, length: number): boolean {
    this.lock()
    try {
      // Another thread may have grown the table.
      if (this.words.length !== this.slotCount * SLOT_WORDS) this.words = this.view()
      const slot = this.find(id)
      if (this.words[slot + 3] !== 0) return false
      writeId(this.words, slot, id)
      this.words[slot + 3] = 1
      this.words[slot + 5] = length
      this.count()
      return true
    } finally {
      this.unlock()
    }
  }

  /** Word offset of the id's slot, or of the empty one where it would go. */
  private find(id: Uint8Array): number {
    const { words } = this
    const mask = this.slotCount - 1
    const a = word(id, 0)
    const b = word(id, 4)
    const c = word(id, 8)
    for (let index = a & mask; ; index = (index + 1) & mask) {
      const slot = index * SLOT_WORDS
      if (words[slot + 3] === 0) return slot
      if (words[slot] === a && words[slot + 1] === b && words[slot + 2] === c) return slot
    }
  }

  /** Of all slots there are now. Without its length, each access would ask how long the buffer has grown. */
  private view(): Uint32Array {
    return new Uint32Array(this.buffer, 0, this.slotCount * SLOT_WORDS)
  }

  private count(): void {
    const used = Atomics.add(this.control, USED, 1) + 1
    const slots = this.control[SLOTS] as number
    if (used > slots * 0.7) this.grow(slots)
  }

  private grow(slots: number): void {
    const old = this.words.slice()
    this.buffer.grow(slots * 2 * SLOT_WORDS * 4)
    this.control[SLOTS] = slots * 2
    this.words = this.view()
    this.words.fill(0)
    const mask = slots * 2 - 1
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      if (old[from + 3] === 0) continue
      let index = (old[from] as number) & mask
      while (this.words[index * SLOT_WORDS + 3] !== 0) index = (index + 1) & mask
      this.words.set(old.subarray(from, from + SLOT_WORDS), index * SLOT_WORDS)
    }
  }

  private lock(): void {
    while (Atomics.compareExchange(this.control, LOCK, 0, 1) !== 0) Atomics.wait(this.control, LOCK, 1, 10)
  }

  private unlock(): void {
    Atomics.store(this.control, LOCK, 0)
    Atomics.notify(this.control, LOCK, 1)
  }
}

function word(id: Uint8Array, at: number): number {
  return (
    ((id[at] as number) |
      ((id[at + 1] as number) << 8) |
      ((id[at + 2] as number) << 16) |
      ((id[at + 3] as number) << 24)) >>>
    0
  )
}

function writeId(words: Uint32Array, slot: number, id: Uint8Array): void {
  words[slot] = word(id, 0)
  words[slot + 1] = word(id, 4)
  words[slot + 2] = word(id, 8)
}
