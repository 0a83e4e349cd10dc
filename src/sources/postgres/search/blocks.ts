import { zstdDecompressSync } from 'node:zlib'
import { expandLz4, expandPglz } from './expand.ts'
import type { WalRecord } from './records.ts'

/** A file of a relation: RelFileLocator, src/include/storage/relfilelocator.h. */
export interface RelationFile {
  tablespace: number
  /** 0: shared by all databases. */
  database: number
  number: number
}

/** A block that a record refers to. */
export interface BlockReference extends RelationFile {
  id: number
  /** 0: the relation itself. */
  fork: number
  block: number
  image: PageImage | null
  /** What the record says of the block, if it does not bring the whole of it. */
  data: Buffer | null
}

/** A page's whole content, as the log keeps it. */
export interface PageImage {
  bytes: Buffer
  holeStart: number
  holeBytes: number
  method: 'none' | 'pglz' | 'lz4' | 'zstd'
}

export interface RecordParts {
  blocks: BlockReference[]
  main: Buffer
}

const NONE = Buffer.alloc(0)

/**
 * Takes a record apart: src/include/access/xlogrecord.h. Null if its parts do not fit into it. `major`: images are
 * described otherwise from 15 on.
 */
export function partsOf({ bytes }: WalRecord, major: number): RecordParts | null {
  const blocks: BlockReference[] = []
  const sizes: { image: number; data: number; isApplied: boolean }[] = []
  let mainBytes = 0
  let payloadBytes = 0
  let position = 24
  // Headers stand first; where what they announce is all that is left, they end.
  while (bytes.length - position > payloadBytes) {
    const id = bytes[position]!
    if (id === 255 || id === 254) {
      if (position + 5 > bytes.length && id === 254) return null
      mainBytes = id === 255 ? bytes[position + 1]! : bytes.readUInt32LE(position + 1)
      position += id === 255 ? 2 : 5
      payloadBytes += mainBytes
      break
    }
    // 253: replication origin; 252: top-level transaction.
    if (id === 253 || id === 252) {
      position += id === 253 ? 3 : 5
      continue
    }
    // XLR_MAX_BLOCK_ID.
    if (id > 32) return null
    const header = readHeader(bytes, position, major, blocks.at(-1) ?? null)
    if (header === null) return null
    blocks.push(header.block)
    sizes.push(header)
    position = header.end
    payloadBytes += header.image + header.data
  }
  if (position + payloadBytes !== bytes.length) return null
  blocks.forEach((block, i) => {
    const { image, data, isApplied } = sizes[i]!
    if (block.image) block.image.bytes = bytes.subarray(position, position + image)
    // Images for checks alone (wal_consistency_checking) come beside the data.
    if (!isApplied) block.image = null
    position += image
    block.data = data === 0 ? null : bytes.subarray(position, position + data)
    position += data
  })
  return { blocks, main: bytes.subarray(position) }
}

interface BlockHeader {
  block: BlockReference
  image: number
  data: number
  isApplied: boolean
  end: number
}

function readHeader(bytes: Buffer, at: number, major: number, before: BlockReference | null): BlockHeader | null {
  let position = at + 4
  if (position > bytes.length) return null
  const flags = bytes[at + 1]!
  const data = bytes.readUInt16LE(at + 2)
  let image: PageImage | null = null
  let imageBytes = 0
  let isApplied = false
  if ((flags & 0x10) !== 0) {
    if (position + 7 > bytes.length) return null
    imageBytes = bytes.readUInt16LE(position)
    const holeStart = bytes.readUInt16LE(position + 2)
    const info = bytes[position + 4]!
    position += 5
    const method = methodOf(info, major)
    isApplied = (info & (major >= 15 ? 0x02 : 0x04)) !== 0
    const hasHole = (info & 0x01) !== 0
    // -1: what the image leaves out of a page, which is known when the page's size is.
    let holeBytes = hasHole ? -1 : 0
    if (hasHole && method !== 'none') {
      holeBytes = bytes.readUInt16LE(position)
      position += 2
    }
    image = { bytes: NONE, holeStart, holeBytes, method }
  }
  const isSame = (flags & 0x80) !== 0
  if (position + (isSame ? 4 : 16) > bytes.length || (isSame && before === null)) return null
  const file = isSame
    ? { tablespace: before!.tablespace, database: before!.database, number: before!.number }
    : {
        tablespace: bytes.readUInt32LE(position),
        database: bytes.readUInt32LE(position + 4),
        number: bytes.readUInt32LE(position + 8),
      }
  if (!isSame) position += 12
  const block = { ...file, id: bytes[at]!, fork: flags & 0x0f, block: bytes.readUInt32LE(position), image, data: null }
  return { block, image: imageBytes, data, isApplied, end: position + 4 }
}

function methodOf(info: number, major: number): PageImage['method'] {
  if (major < 15) return (info & 0x02) !== 0 ? 'pglz' : 'none'
  if ((info & 0x04) !== 0) return 'pglz'
  if ((info & 0x08) !== 0) return 'lz4'
  return (info & 0x10) !== 0 ? 'zstd' : 'none'
}

/** The page; null if the image does not expand to one. */
export function pageOf(image: PageImage, pageBytes: number): Buffer | null {
  const holeBytes = image.holeBytes < 0 ? pageBytes - image.bytes.length : image.holeBytes
  const content = expand(image, pageBytes - holeBytes)
  if (content === null || content.length + holeBytes !== pageBytes || image.holeStart > content.length) return null
  if (holeBytes === 0) return content
  return Buffer.concat([
    content.subarray(0, image.holeStart),
    Buffer.alloc(holeBytes),
    content.subarray(image.holeStart),
  ])
}

function expand({ bytes, method }: PageImage, length: number): Buffer | null {
  if (length <= 0) return null
  switch (method) {
    case 'none':
      return bytes
    case 'pglz':
      return expandPglz(bytes, length)
    case 'lz4':
      return expandLz4(bytes, length)
    case 'zstd':
      try {
        return zstdDecompressSync(bytes, { maxOutputLength: length })
      } catch {
        // Told like every other image that cannot be read.
        return null
      }
  }
}
