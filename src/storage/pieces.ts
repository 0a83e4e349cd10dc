import type { Bytes } from './contract.ts'

/** What a write is handed, for drivers that send it over a network. */

export function piecesOf(bytes: Bytes): readonly Uint8Array[] {
  return bytes instanceof Uint8Array ? [bytes] : bytes
}

export function lengthOf(bytes: Bytes): number {
  return piecesOf(bytes).reduce((sum, piece) => sum + piece.length, 0)
}

/** The bytes in one piece: a view of the caller's memory if they lie so already, and not in shared memory. */
export function wholeOf(bytes: Bytes): Buffer {
  return joined(piecesOf(bytes))
}

/**
 * The bytes end to end in blocks of `size`, the last one shorter; none if there are no bytes. A block is a view of the
 * caller's memory where it lies in one piece, and a copy where it spans several or lies in shared memory, which
 * HTTP clients refuse.
 */
export function* blocksOf(bytes: Bytes, size: number): Generator<Buffer> {
  let pending: Uint8Array[] = []
  let pendingLength = 0
  for (const piece of piecesOf(bytes)) {
    let offset = 0
    while (offset < piece.length) {
      const part = piece.subarray(offset, offset + size - pendingLength)
      offset += part.length
      pending.push(part)
      pendingLength += part.length
      if (pendingLength < size) continue
      yield joined(pending)
      pending = []
      pendingLength = 0
    }
  }
  if (pendingLength > 0) yield joined(pending)
}

function joined(parts: readonly Uint8Array[]): Buffer {
  const [only] = parts
  if (parts.length !== 1 || only!.buffer instanceof SharedArrayBuffer) return Buffer.concat(parts)
  return Buffer.from(only!.buffer as ArrayBuffer, only!.byteOffset, only!.length)
}
