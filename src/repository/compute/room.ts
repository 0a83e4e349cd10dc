/** Memory that a thread uses again and again: fresh memory of a megabyte costs more page faults than its use is worth. */
export class Room {
  /** What is larger than any pack is not kept. */
  private static readonly KEPT_BYTES = 128 * 1024 * 1024
  private buffer = Buffer.alloc(0)

  /** So many bytes, of any content, until the next call. */
  take(bytes: number): Buffer {
    if (bytes > Room.KEPT_BYTES) return Buffer.allocUnsafeSlow(bytes)
    if (this.buffer.length < bytes) this.buffer = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)))
    return this.buffer.subarray(0, bytes)
  }
}

/** What a thread opens packs in: at most a pack, its plaintext, a stored group and a raw one. */
export interface Rooms {
  pack: Room
  plain: Room
  stored: Room
  raw: Room
}

export function makeRooms(): Rooms {
  return { pack: new Room(), plain: new Room(), stored: new Room(), raw: new Room() }
}
