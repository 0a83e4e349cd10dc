import { RegainError } from '../../errors.ts'
import { directorySize } from './pack.ts'

/**
 * docs/format.md, Index. A segment says which chunks some packs hold: per pack its name (32), its size in bytes u32, a
 * zero u32, and its directory as it stands in the pack. Segments are immutable; together they can be rebuilt from packs.
 */
export interface IndexedPack {
  /** SHA-256 of the pack's bytes. */
  name: Buffer
  sizeBytes: number
  directory: Buffer
}

const HEAD_BYTES = 40

export function encodeIndexSegment(packs: readonly IndexedPack[]): Buffer {
  const pieces: Buffer[] = []
  for (const pack of packs) {
    const head = Buffer.alloc(HEAD_BYTES)
    pack.name.copy(head)
    head.writeUInt32LE(pack.sizeBytes, 32)
    pieces.push(head, pack.directory)
  }
  return Buffer.concat(pieces)
}

export function decodeIndexSegment(bytes: Buffer, name: string): IndexedPack[] {
  const packs: IndexedPack[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + HEAD_BYTES > bytes.length)
      throw new RegainError('repository-damaged', `${name} ends in the middle of a record.`)
    if (bytes.readUInt32LE(at + 36) !== 0)
      throw new RegainError(
        'repository-version',
        `${name} has records of a kind that this version of Regain does not know.`,
      )
    const directoryAt = at + HEAD_BYTES
    const size = directorySize(bytes.subarray(directoryAt), name)
    packs.push({
      name: bytes.subarray(at, at + 32),
      sizeBytes: bytes.readUInt32LE(at + 32),
      directory: bytes.subarray(directoryAt, directoryAt + size),
    })
    at = directoryAt + size
  }
  return packs
}
