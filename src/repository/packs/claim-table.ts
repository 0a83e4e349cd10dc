import { RegainError } from '../../errors.ts'
import { FULL_SHARE, homeSlot, slotsFor, word } from './slots.ts'

/**
 * Which chunks a session's threads have taken on, in shared memory: 12 bytes a slot, the first 96 bits of the chunk's id, and
 * zeros where there is none. A claim makes the chunk the claimant's to store and lets every other thread leave it out: the
 * session commits only when every claimed chunk is durable. It grows as it fills: 15 to 22 MB for a million chunks.
 */
const SLOT_WORDS = 3
const SLOT_BYTES = SLOT_WORDS * 4
const GROWTH = 1.5
/** 2^26 slots, 805 MB: some 53 million chunks in one session. Address space, not memory. */
const MAX_SLOTS = 1 << 26

/** The lock and counters, in shared memory of their own. */
const LOCK = 0
const USED = 1
const SLOTS = 2

export interface SharedClaims {
  control: Int32Array
  buffer: SharedArrayBuffer
}

export class ClaimTable {
  private readonly control: Int32Array
  private readonly buffer: SharedArrayBuffer
  private words: Uint32Array

  private constructor(shared: SharedClaims) {
    this.control = shared.control
    this.buffer = shared.buffer
    this.words = this.view()
  }

  static create(): ClaimTable {
    const slots = slotsFor(0)
    const control = new Int32Array(new SharedArrayBuffer(16))
    control[SLOTS] = slots
    const buffer = new SharedArrayBuffer(slots * SLOT_BYTES, { maxByteLength: MAX_SLOTS * SLOT_BYTES })
    return new ClaimTable({ control, buffer })
  }

  /** The same table in another thread: post `share()` to it. */
  static attach(shared: SharedClaims): ClaimTable {
    return new ClaimTable(shared)
  }

  share(): SharedClaims {
    return { control: this.control, buffer: this.buffer }
  }

  get size(): number {
    return Atomics.load(this.control, USED)
  }

  /** True if this call took the chunk on, false if some thread had before. Safe from any number of threads. */
  claim(id: Uint8Array): boolean {
    this.lock()
    try {
      this.refresh()
      const slot = this.find(id)
      if (this.words[slot + 2] !== 0) return false
      this.words[slot] = word(id, 0)
      this.words[slot + 1] = word(id, 4)
      this.words[slot + 2] = lastWord(id)
      const slots = this.words.length / SLOT_WORDS
      if (Atomics.add(this.control, USED, 1) + 1 > slots * FULL_SHARE) this.grow(slots)
      return true
    } finally {
      this.unlock()
    }
  }

  /** Whether some thread has taken the chunk on. Safe from any number of threads. */
  has(id: Uint8Array): boolean {
    this.lock()
    try {
      this.refresh()
      return this.words[this.find(id) + 2] !== 0
    } finally {
      this.unlock()
    }
  }

  /** Another thread may have grown the table. */
  private refresh(): void {
    if (this.words.length !== (this.control[SLOTS] as number) * SLOT_WORDS) this.words = this.view()
  }

  /** Word offset of the id's slot, or of the empty one where it would go. */
  private find(id: Uint8Array): number {
    const { words } = this
    const slots = words.length / SLOT_WORDS
    const a = word(id, 0)
    const b = word(id, 4)
    const c = lastWord(id)
    for (let index = homeSlot(a, slots); ; index = index + 1 === slots ? 0 : index + 1) {
      const slot = index * SLOT_WORDS
      if (words[slot + 2] === 0) return slot
      if (words[slot + 2] === c && words[slot + 1] === b && words[slot] === a) return slot
    }
  }

  /** Of all slots there are now. Without its length, each access would ask how long the buffer has grown. */
  private view(): Uint32Array {
    return new Uint32Array(this.buffer, 0, (this.control[SLOTS] as number) * SLOT_WORDS)
  }

  private grow(slots: number): void {
    if (slots === MAX_SLOTS)
      throw new RegainError(
        'source-unsuitable',
        `The source has more than ${this.size} pieces of new content: too many for one point in this version.`,
      )
    const more = Math.min(Math.ceil(slots * GROWTH), MAX_SLOTS)
    const old = this.words.slice()
    this.buffer.grow(more * SLOT_BYTES)
    this.control[SLOTS] = more
    this.words = this.view()
    const { words } = this
    words.fill(0)
    for (let from = 0; from < old.length; from += SLOT_WORDS) {
      if (old[from + 2] === 0) continue
      let index = homeSlot(old[from] as number, more)
      while (words[index * SLOT_WORDS + 2] !== 0) index = index + 1 === more ? 0 : index + 1
      words[index * SLOT_WORDS] = old[from] as number
      words[index * SLOT_WORDS + 1] = old[from + 1] as number
      words[index * SLOT_WORDS + 2] = old[from + 2] as number
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

/** Never zero, which marks a slot as empty: two ids become alike by that only if 95 other bits are. */
function lastWord(id: Uint8Array): number {
  return word(id, 8) || 1
}
