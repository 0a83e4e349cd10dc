import { RegainError } from '../../../errors.ts'
import type { PatchStream } from '../../contract.ts'

/**
 * A file of an incremental backup as the server sends it (PostgreSQL 17 and later, src/backend/backup/basebackup.c and
 * src/bin/pg_combinebackup/reconstruct.c). Little endian:
 *
 *   u32 0xd3ae1f0d | u32 number of blocks n | u32 truncation length, in blocks | n u32 block numbers, ascending
 *   zeros up to a multiple of the block size, only if n > 0 | the n blocks
 *
 * The file has as many blocks as the larger of the truncation length and the last number plus one. Those that are not
 * sent are the earlier file's below the truncation length, and zeros above it and beyond the earlier file's end.
 */
const MAGIC = 0xd3ae1f0d
const HEADER_BYTES = 12
/** Of a segment of a relation: 1 GiB of the smallest blocks. */
const MAX_BLOCKS = 1 << 20
const ZEROS = Buffer.alloc(64 * 1024)

const NAME = /^(.*\/)?INCREMENTAL\.([^/]+)$/

/** The path of the file that an entry of an incremental backup stands for; null if it is sent whole. */
export function patchedPath(path: string): string | null {
  const [, folder = '', name] = NAME.exec(path) ?? []
  return name === undefined ? null : folder + name
}

/** Lays what arrives over the earlier file. `open` is asked once the file's size, in bytes, is known. */
export class IncrementalFile {
  readonly #blockBytes: number
  readonly #open: (size: number) => Promise<PatchStream>
  #head: Buffer[] = []
  #headBytes = 0
  #numbers: Uint32Array = new Uint32Array(0)
  #patch: PatchStream | null = null
  #size = 0
  /** Blocks from here on are zeros unless they are sent. */
  #zerosFrom = 0
  #sent = 0
  #within = 0

  constructor(blockBytes: number, open: (size: number) => Promise<PatchStream>) {
    this.#blockBytes = blockBytes
    this.#open = open
  }

  /** Bytes of the whole file. Known after `end`. */
  get size(): number {
    return this.#size
  }

  async write(bytes: Buffer): Promise<void> {
    const rest = this.#patch === null ? await this.#header(bytes) : bytes
    for (let at = 0; at < rest.length; ) {
      const taken = Math.min(rest.length - at, this.#blockBytes - this.#within)
      await this.#block(rest.subarray(at, at + taken))
      at += taken
    }
  }

  async end(): Promise<void> {
    if (this.#patch === null || this.#sent !== this.#numbers.length || this.#within !== 0)
      throw broken('it ends in the middle')
    await this.#patch.end()
  }

  /** What follows the header; nothing while it is not whole. */
  async #header(bytes: Buffer): Promise<Buffer> {
    this.#head.push(Buffer.from(bytes))
    this.#headBytes += bytes.length
    if (this.#headBytes < HEADER_BYTES) return ZEROS.subarray(0, 0)
    const head = Buffer.concat(this.#head)
    this.#head = [head]
    const blocks = head.readUInt32LE(4)
    if (head.readUInt32LE(0) !== MAGIC || blocks > MAX_BLOCKS) throw broken('it does not begin as such a file does')
    const plain = HEADER_BYTES + blocks * 4
    const length = blocks === 0 ? plain : Math.ceil(plain / this.#blockBytes) * this.#blockBytes
    if (head.length < length) return ZEROS.subarray(0, 0)
    this.#head = []
    await this.#begin(head, blocks)
    return head.subarray(length)
  }

  async #begin(head: Buffer, blocks: number): Promise<void> {
    const truncated = head.readUInt32LE(8)
    this.#numbers = Uint32Array.from({ length: blocks }, (_, i) => head.readUInt32LE(HEADER_BYTES + i * 4))
    if (this.#numbers.some((number, i) => i > 0 && number <= (this.#numbers[i - 1] as number)))
      throw broken('its blocks are not in order')
    const total = Math.max(truncated, blocks === 0 ? 0 : (this.#numbers[blocks - 1] as number) + 1)
    if (total > MAX_BLOCKS) throw broken('it is longer than such a file can be')
    this.#size = total * this.#blockBytes
    this.#zerosFrom = truncated
    this.#patch = await this.#open(this.#size)
  }

  async #block(piece: Buffer): Promise<void> {
    const number = this.#numbers[this.#sent]
    if (number === undefined) throw broken('it goes on behind its last block')
    if (this.#within === 0) await this.#zerosUpTo(number)
    await this.#patch?.write(number * this.#blockBytes + this.#within, piece)
    this.#within += piece.length
    if (this.#within < this.#blockBytes) return
    this.#within = 0
    this.#sent++
    this.#zerosFrom = Math.max(this.#zerosFrom, number + 1)
  }

  async #zerosUpTo(number: number): Promise<void> {
    const end = number * this.#blockBytes
    for (let at = this.#zerosFrom * this.#blockBytes; at < end; ) {
      const length = Math.min(ZEROS.length, end - at)
      await this.#patch?.write(at, ZEROS.subarray(0, length))
      at += length
    }
  }
}

function broken(reason: string): RegainError {
  return new RegainError(
    'source-unsuitable',
    `A file of changed blocks that the server sent cannot be read: ${reason}. Nothing of this backup is kept.`,
  )
}
