import { createHash, type Hash } from 'node:crypto'
import type { DomainKeys } from '../format/domain-keys.ts'
import {
  encodeDirectory,
  FOOTER_BYTES,
  GROUP_MAX_RAW_BYTES,
  GROUP_TARGET_BYTES,
  type Group,
  type GroupChunk,
  METHOD_STORED,
  METHOD_ZSTD,
  PACK_MAX_CHUNKS,
  PACK_MAX_GROUPS,
} from '../format/pack.ts'
import { FRAME_BYTES, Sealer, sealedSize } from '../format/sealed.ts'
import { compress, compressBound } from './zstd.ts'

/** A finished pack. `buffer` holds `sizeBytes` of it; give the buffer back to the builder's pool when it is stored. */
export interface FinishedPack {
  /** SHA-256 of the bytes. */
  name: Buffer
  buffer: ArrayBuffer
  sizeBytes: number
  directory: Buffer
}

export interface PackBuilderOptions {
  keys: DomainKeys
  randomBytes(size: number): Buffer
  /** zstd level of groups. */
  level: number
  /** A pack ends when its groups reach this. */
  packBytes: number
  /** A buffer of so many bytes, new or used before. */
  takeBuffer(bytes: number): ArrayBuffer
  finished(pack: FinishedPack): void
}

/** Room for the target, one group over it, the largest directory, and the seal. */
function bufferBytes(packBytes: number): number {
  return sealedSize(packBytes + GROUP_MAX_RAW_BYTES + PACK_MAX_GROUPS * 20 + PACK_MAX_CHUNKS * 40 + 4096)
}

const FIRST_GROUP_BYTES = 256 * 1024

/** Samples of this size tell whether data compresses; below twice this, just try. */
const SAMPLE_BYTES = 16 * 1024
/** Not worth a reader's time if it saves less. */
const WORTHWHILE = 0.97

/**
 * Collects chunks into groups, groups into sealed packs. Frames are sealed as the body grows, so a pack exists once, in
 * its final form. Chunks that do not compress go to groups of their own and are stored as they are.
 */
export class PackBuilder {
  private readonly options: PackBuilderOptions
  private readonly compressible = new GroupBuffer()
  private readonly stored = new GroupBuffer()
  private pack: OpenPack | null = null

  constructor(options: PackBuilderOptions) {
    this.options = options
  }

  /** Copies the chunk. */
  add(id: Buffer, bytes: Uint8Array): void {
    const buffer = compresses(bytes) ? this.compressible : this.stored
    if (buffer.rawBytes > 0 && buffer.rawBytes + bytes.length > GROUP_TARGET_BYTES * 2) this.closeGroup(buffer)
    buffer.add(id, bytes)
    if (buffer.rawBytes >= GROUP_TARGET_BYTES || buffer.chunks.length >= PACK_MAX_CHUNKS / 4) this.closeGroup(buffer)
  }

  /** Finishes what is open. The builder can go on afterwards. */
  flush(): void {
    this.closeGroup(this.compressible)
    this.closeGroup(this.stored)
    this.closePack()
  }

  private closeGroup(buffer: GroupBuffer): void {
    if (buffer.chunks.length === 0) return
    const raw = buffer.bytes()
    const compressed = buffer === this.compressible ? compressGroup(raw, this.options.level) : null
    const payload = compressed !== null && compressed.length < raw.length ? compressed : raw
    this.pack ??= new OpenPack(this.options)
    this.pack.append(payload, {
      offset: 0,
      storedBytes: payload.length,
      rawBytes: raw.length,
      method: payload === raw ? METHOD_STORED : METHOD_ZSTD,
      chunks: buffer.chunks,
    })
    buffer.clear()
    if (this.pack.full) this.closePack()
  }

  private closePack(): void {
    if (this.pack === null) return
    this.options.finished(this.pack.finish())
    this.pack = null
  }
}

/** One a thread, for what is about to be copied into a frame. */
let scratch: Buffer | null = null

/** Valid until the next call. */
function compressGroup(raw: Uint8Array, level: number): Buffer {
  scratch ??= Buffer.allocUnsafeSlow(compressBound(GROUP_MAX_RAW_BYTES))
  return scratch.subarray(0, compress(raw, level, scratch))
}

function compresses(bytes: Uint8Array): boolean {
  if (bytes.length < SAMPLE_BYTES * 2 || !looksRandom(bytes)) return true
  const middle = (bytes.length - SAMPLE_BYTES) >>> 1
  // The middle may be a picture in a document: ask the beginning too before giving up on the whole chunk.
  return sampleCompresses(bytes, middle) || sampleCompresses(bytes, 0)
}

function sampleCompresses(bytes: Uint8Array, start: number): boolean {
  return compressGroup(bytes.subarray(start, start + SAMPLE_BYTES), 1).length < SAMPLE_BYTES * WORTHWHILE
}

const LOOKS = 512
/** The sum of squares of 512 evenly spread bytes' counts is 1534 on average; anything with a pattern gives far more. */
const RANDOM_LIMIT = 2200
const counts = new Uint16Array(256)

/** A look at a few bytes, some microseconds: what is plainly not random needs no trial compression. */
function looksRandom(bytes: Uint8Array): boolean {
  counts.fill(0)
  // An odd stride, so that it does not step along with the records of a table.
  const stride = Math.floor(bytes.length / LOOKS) | 1
  for (let look = 0, at = 0; look < LOOKS && at < bytes.length; look++, at += stride) counts[bytes[at] as number]!++
  let squares = 0
  for (let value = 0; value < 256; value++) squares += (counts[value] as number) ** 2
  return squares < RANDOM_LIMIT
}

class GroupBuffer {
  rawBytes = 0
  chunks: GroupChunk[] = []
  private buffer = Buffer.allocUnsafeSlow(FIRST_GROUP_BYTES)

  add(id: Buffer, bytes: Uint8Array): void {
    if (this.rawBytes + bytes.length > this.buffer.length) this.grow(this.rawBytes + bytes.length)
    this.buffer.set(bytes, this.rawBytes)
    this.chunks.push({ id, offset: this.rawBytes, length: bytes.length })
    this.rawBytes += bytes.length
  }

  /** Doubling: a small backup does not take the memory of a large one. */
  private grow(needed: number): void {
    let size = this.buffer.length
    while (size < needed) size *= 2
    const larger = Buffer.allocUnsafeSlow(Math.min(size, GROUP_MAX_RAW_BYTES))
    this.buffer.copy(larger, 0, 0, this.rawBytes)
    this.buffer = larger
  }

  bytes(): Buffer {
    return this.buffer.subarray(0, this.rawBytes)
  }

  clear(): void {
    this.rawBytes = 0
    this.chunks = []
  }
}

class OpenPack {
  private readonly packBytes: number
  private readonly sealer: Sealer
  private readonly hash: Hash = createHash('sha256')
  private readonly buffer: ArrayBuffer
  private readonly out: Buffer
  private readonly groups: Group[] = []
  private readonly frame = Buffer.allocUnsafe(FRAME_BYTES)
  private frameFill = 0
  private sealedBytes = 0
  private plainBytes = 0
  private chunkCount = 0

  constructor(options: PackBuilderOptions) {
    this.sealer = new Sealer(options.keys, 'P', '', options.randomBytes(32))
    this.packBytes = options.packBytes
    this.buffer = options.takeBuffer(bufferBytes(options.packBytes))
    this.out = Buffer.from(this.buffer)
    this.sealedBytes = this.sealer.header.copy(this.out)
    this.hash.update(this.sealer.header)
  }

  get full(): boolean {
    return (
      this.plainBytes >= this.packBytes ||
      this.groups.length >= PACK_MAX_GROUPS - 1 ||
      this.chunkCount >= (PACK_MAX_CHUNKS * 3) / 4
    )
  }

  append(payload: Buffer, group: Group): void {
    group.offset = this.plainBytes
    this.groups.push(group)
    this.chunkCount += group.chunks.length
    this.write(payload)
  }

  finish(): FinishedPack {
    const directory = encodeDirectory(this.groups)
    const footer = Buffer.alloc(FOOTER_BYTES)
    footer.writeUInt32LE(directory.length, 0)
    this.write(directory)
    this.write(footer)
    this.sealFrame(true)
    return { name: this.hash.digest(), buffer: this.buffer, sizeBytes: this.sealedBytes, directory }
  }

  /** A full frame is sealed only when more follows, because the last one must be known as such. */
  private write(bytes: Buffer): void {
    this.plainBytes += bytes.length
    for (let at = 0; at < bytes.length; ) {
      if (this.frameFill === FRAME_BYTES) this.sealFrame(false)
      const taken = bytes.copy(this.frame, this.frameFill, at)
      this.frameFill += taken
      at += taken
    }
  }

  private sealFrame(last: boolean): void {
    const start = this.sealedBytes
    this.sealedBytes += this.sealer.seal(this.frame.subarray(0, this.frameFill), last, this.out, start)
    this.hash.update(this.out.subarray(start, this.sealedBytes))
    this.frameFill = 0
  }
}
