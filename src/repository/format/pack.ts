import { RegainError } from '../../errors.ts'
import { ID_BYTES } from './domain-keys.ts'

/**
 * docs/format.md, Packs. The plaintext of a pack is: groups end to end | directory | footer (directory length u32, zero u32).
 *
 *   directory: group count u32, chunk count u32,
 *              per group: offset u32, stored length u32, raw length u32, chunk count u32, method u32 (0 stored, 1 zstd)
 *              per chunk, group after group: id (32), offset in the raw group u32, length u32
 *
 * All integers little endian.
 */
export const METADATA_PACK_BYTES = 8 * 1024 * 1024
const SMALL_PACK_BYTES = 16 * 1024 * 1024
const LARGE_PACK_BYTES = 32 * 1024 * 1024
const MANY_PACKS = 2 ** 18
export const PACK_MAX_BYTES = 64 * 1024 * 1024
/** A group is closed when it reaches this; a chunk larger than it is a group of its own. */
export const GROUP_TARGET_BYTES = 1024 * 1024
/** Chunks are at most 4 MiB, log pieces and pages less: no honest group is larger. */
export const GROUP_MAX_RAW_BYTES = 8 * 1024 * 1024
export const PACK_MAX_GROUPS = 4096
export const PACK_MAX_CHUNKS = 65536
export const FOOTER_BYTES = 8
const GROUP_RECORD_BYTES = 20
const CHUNK_RECORD_BYTES = ID_BYTES + 8
const HEAD_BYTES = 8

/**
 * Where writers end packs of content in a repository of so many packs. Small ones take half the memory, of which each thread
 * needs some; large ones let a repository of at most 2^20 packs (packs/chunk-table.ts) hold 28 TiB.
 */
export function packTargetBytes(packCount: number): number {
  return packCount < MANY_PACKS ? SMALL_PACK_BYTES : LARGE_PACK_BYTES
}

export const METHOD_STORED = 0
export const METHOD_ZSTD = 1

export interface Group {
  /** Of its stored form, in the pack's plaintext. */
  offset: number
  storedBytes: number
  rawBytes: number
  method: number
  chunks: GroupChunk[]
}

export interface GroupChunk {
  id: Buffer
  /** In the raw group. */
  offset: number
  length: number
}

export function encodeDirectory(groups: readonly Group[]): Buffer {
  const chunkCount = groups.reduce((sum, group) => sum + group.chunks.length, 0)
  // Memory of its own: a thread hands it over.
  const out = Buffer.allocUnsafeSlow(HEAD_BYTES + groups.length * GROUP_RECORD_BYTES + chunkCount * CHUNK_RECORD_BYTES)
  out.writeUInt32LE(groups.length, 0)
  out.writeUInt32LE(chunkCount, 4)
  let at = HEAD_BYTES
  for (const group of groups) {
    out.writeUInt32LE(group.offset, at)
    out.writeUInt32LE(group.storedBytes, at + 4)
    out.writeUInt32LE(group.rawBytes, at + 8)
    out.writeUInt32LE(group.chunks.length, at + 12)
    out.writeUInt32LE(group.method, at + 16)
    at += GROUP_RECORD_BYTES
  }
  for (const group of groups)
    for (const chunk of group.chunks) {
      chunk.id.copy(out, at)
      out.writeUInt32LE(chunk.offset, at + ID_BYTES)
      out.writeUInt32LE(chunk.length, at + ID_BYTES + 4)
      at += CHUNK_RECORD_BYTES
    }
  return out
}

/** Bytes of the directory that begins at the start of `bytes`; throws `repository-damaged` if that can't be. */
export function directorySize(bytes: Buffer, name: string): number {
  if (bytes.length < HEAD_BYTES) throw damaged(name)
  const groups = bytes.readUInt32LE(0)
  const chunks = bytes.readUInt32LE(4)
  const size = HEAD_BYTES + groups * GROUP_RECORD_BYTES + chunks * CHUNK_RECORD_BYTES
  if (groups > PACK_MAX_GROUPS || chunks > PACK_MAX_CHUNKS || size > bytes.length) throw damaged(name)
  return size
}

/** Of a directory whose size has been checked. */
export function chunkCount(directory: Buffer): number {
  return directory.readUInt32LE(4)
}

/** Checks every bound, so that nothing read later can leave its group or pack. Ids are views into `bytes`. */
export function decodeDirectory(bytes: Buffer, name: string): Group[] {
  const size = directorySize(bytes, name)
  const groupCount = bytes.readUInt32LE(0)
  let at = HEAD_BYTES + groupCount * GROUP_RECORD_BYTES
  let expectedOffset = 0
  const groups: Group[] = []
  for (let g = 0, head = HEAD_BYTES; g < groupCount; g++, head += GROUP_RECORD_BYTES) {
    const group: Group = {
      offset: bytes.readUInt32LE(head),
      storedBytes: bytes.readUInt32LE(head + 4),
      rawBytes: bytes.readUInt32LE(head + 8),
      method: bytes.readUInt32LE(head + 16),
      chunks: [],
    }
    const chunkCount = bytes.readUInt32LE(head + 12)
    const sound =
      group.offset === expectedOffset &&
      group.rawBytes <= GROUP_MAX_RAW_BYTES &&
      group.offset + group.storedBytes <= PACK_MAX_BYTES &&
      (group.method === METHOD_ZSTD || (group.method === METHOD_STORED && group.storedBytes === group.rawBytes)) &&
      at + chunkCount * CHUNK_RECORD_BYTES <= size
    if (!sound) throw damaged(name)
    expectedOffset += group.storedBytes
    for (let c = 0; c < chunkCount; c++, at += CHUNK_RECORD_BYTES) {
      const offset = bytes.readUInt32LE(at + ID_BYTES)
      const length = bytes.readUInt32LE(at + ID_BYTES + 4)
      if (length === 0 || offset + length > group.rawBytes) throw damaged(name)
      group.chunks.push({ id: bytes.subarray(at, at + ID_BYTES), offset, length })
    }
    groups.push(group)
  }
  if (at !== size) throw damaged(name)
  return groups
}

function damaged(name: string): RegainError {
  return new RegainError('repository-damaged', `The directory of ${name} contradicts itself.`)
}
