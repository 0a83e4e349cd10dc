import { RegainError } from '../../../errors.ts'

/** What a header of an archive says of its entry. Names are bytes. */
export interface TarHeader {
  /** Components joined by '/', none of them empty, '.' or '..'; empty for the archive's root. */
  name: Buffer
  type: 'file' | 'directory' | 'symlink'
  /** Permission bits. */
  mode: number
  uid: number
  gid: number
  /** Content that follows, in bytes. */
  size: number
  /** Seconds since the epoch. */
  mtime: number
  /** Of a symbolic link. */
  target: Buffer
}

export interface TarHandler {
  header(header: TarHeader): void
  /** A piece of the current file's content, uncopied. */
  content(piece: Buffer): void
  /** The current file is whole. Called for files only, also for empty ones. */
  fileEnd(): void
}

const BLOCK_BYTES = 512

/**
 * Reads one archive as it arrives: ustar (POSIX 1003.1) with what PostgreSQL's server emits (src/port/tar.c): base-256
 * numbers for sizes from 8 GiB, regular files, directories and symbolic links. Anything else, a wrong header checksum,
 * or a name that leads outside is refused with `source-unsuitable`: a backup must not guess. Holds one block.
 */
export class TarParser {
  readonly #handler: TarHandler
  readonly #endBlocks: number
  readonly #block = Buffer.alloc(BLOCK_BYTES)
  #blockBytes = 0
  /** Of the current file: content still to come, then padding to the block's end. */
  #content = 0
  #padding = 0
  #zeroBlocks = 0

  /** `endBlocks`: how many blocks of zeros must end it; the protocol of versions 13 and 14 leaves them out. */
  constructor(handler: TarHandler, endBlocks: 0 | 2 = 2) {
    this.#handler = handler
    this.#endBlocks = endBlocks
  }

  push(chunk: Buffer): void {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#content > 0) {
        const end = Math.min(chunk.length, offset + this.#content)
        this.#content -= end - offset
        this.#handler.content(chunk.subarray(offset, end))
        offset = end
        if (this.#content === 0) this.#handler.fileEnd()
      } else if (this.#padding > 0) {
        const skipped = Math.min(chunk.length - offset, this.#padding)
        this.#padding -= skipped
        offset += skipped
      } else {
        const copied = chunk.copy(this.#block, this.#blockBytes, offset, offset + BLOCK_BYTES - this.#blockBytes)
        this.#blockBytes += copied
        offset += copied
        if (this.#blockBytes === BLOCK_BYTES) this.#onBlock()
      }
    }
  }

  /** To be called when no more bytes come: throws if the archive was cut short. */
  end(): void {
    const cut = this.#content > 0 || this.#padding > 0 || this.#blockBytes > 0
    if (cut || this.#zeroBlocks < this.#endBlocks) throw broken('it ends in the middle')
  }

  #onBlock(): void {
    this.#blockBytes = 0
    if (this.#block.every((byte) => byte === 0)) {
      this.#zeroBlocks++
      return
    }
    if (this.#zeroBlocks > 0) throw broken('it goes on behind its end')
    const header = parseHeader(this.#block)
    this.#handler.header(header)
    if (header.type !== 'file') return
    this.#content = header.size
    this.#padding = (BLOCK_BYTES - (header.size % BLOCK_BYTES)) % BLOCK_BYTES
    if (header.size === 0) this.#handler.fileEnd()
  }
}

function parseHeader(block: Buffer): TarHeader {
  checkSum(block)
  const type = typeOf(block[156] ?? 0)
  const prefix = field(block, 345, 155)
  const short = field(block, 0, 100)
  const name = prefix.length > 0 && isUstar(block) ? Buffer.concat([prefix, Buffer.from('/'), short]) : short
  const size = number(block, 124, 12)
  if (type !== 'file' && size !== 0) throw broken('an entry without content says it has some')
  return {
    name: safeName(name),
    type,
    mode: number(block, 100, 8) & 0o7777,
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size,
    mtime: number(block, 136, 12),
    target: type === 'symlink' ? Buffer.from(field(block, 157, 100)) : Buffer.alloc(0),
  }
}

/** The sum of the header's bytes, its own field taken as blanks. */
function checkSum(block: Buffer): void {
  let sum = 8 * 0x20
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0
  if (sum !== number(block, 148, 8)) throw broken('a header does not match its checksum')
}

function typeOf(flag: number): TarHeader['type'] {
  if (flag === 0x30 || flag === 0) return 'file'
  if (flag === 0x35) return 'directory'
  if (flag === 0x32) return 'symlink'
  throw broken(`it holds an entry of the unknown type ${JSON.stringify(String.fromCharCode(flag))}`)
}

function isUstar(block: Buffer): boolean {
  return block.toString('latin1', 257, 262) === 'ustar'
}

/** A field of text: up to its first zero. */
function field(block: Buffer, offset: number, length: number): Buffer {
  const bytes = block.subarray(offset, offset + length)
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

/** Octal text, or base 256 when the first bit is set (GNU's and PostgreSQL's way for large numbers). */
function number(block: Buffer, offset: number, length: number): number {
  if (((block[offset] ?? 0) & 0x80) !== 0) {
    let value = BigInt((block[offset] ?? 0) & 0x7f)
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[offset + i] ?? 0)
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken('a header holds a number that is too large')
    return Number(value)
  }
  const text = block
    .toString('latin1', offset, offset + length)
    .replace(/[\0 ]+$/, '')
    .trim()
  if (!/^[0-7]*$/.test(text)) throw broken('a header holds something that is no number')
  return text === '' ? 0 : Number.parseInt(text, 8)
}

function safeName(name: Buffer): Buffer {
  const text = name.toString('latin1')
  if (text.startsWith('/')) throw broken(`it holds an absolute name, ${JSON.stringify(text)}`)
  const components = text.split('/').filter((component) => component !== '' && component !== '.')
  if (components.includes('..')) throw broken(`it holds a name that leads outside, ${JSON.stringify(text)}`)
  return Buffer.from(components.join('/'), 'latin1')
}

function broken(reason: string): RegainError {
  return new RegainError(
    'source-unsuitable',
    `The archive that the server sent cannot be read: ${reason}. Nothing of this backup is kept.`,
  )
}
