import { RegainError } from '../../errors.ts'
import { compress, compressBound, decompress } from '../packs/zstd.ts'

/** docs/format.md, Log: one line of JSON (what is known of the piece, and its raw size), then its bytes as one zstd frame. */
const LEVEL = 1
/** PostgreSQL's segments are at most 1 GiB. */
const MAX_PIECE_BYTES = 1024 * 1024 * 1024

export interface PieceMeta {
  until: string
  /** Name of the segment before it on this branch, if the store held that when this one was put. */
  follows?: string
}

export interface Piece {
  bytes: Buffer
  meta: PieceMeta
}

export function encodeLogPiece({ bytes, meta }: Piece): Buffer {
  const head = Buffer.from(`${JSON.stringify({ ...meta, bytes: bytes.length })}\n`)
  const plain = Buffer.allocUnsafeSlow(head.length + compressBound(bytes.length))
  head.copy(plain)
  return plain.subarray(0, head.length + compress(bytes, LEVEL, plain.subarray(head.length)))
}

/** Throws `repository-damaged`. `object`: its name, for that. */
export function decodeLogPiece(plain: Buffer, object: string): Piece {
  const { meta, rawBytes, at } = decodeLogHead(plain, object)
  try {
    const bytes = Buffer.allocUnsafeSlow(rawBytes)
    if (decompress(plain.subarray(at), bytes) !== rawBytes) throw new Error('wrong size')
    return { bytes, meta }
  } catch (error) {
    throw damaged(object, error)
  }
}

/** The first line alone, and where what follows it begins; `plain` may end anywhere after it. Throws as `decodeLogPiece`. */
export function decodeLogHead(plain: Buffer, object: string): { meta: PieceMeta; rawBytes: number; at: number } {
  try {
    const at = plain.indexOf(0x0a) + 1
    const head = JSON.parse(plain.toString('utf8', 0, at)) as PieceMeta & { bytes: number }
    if (!Number.isInteger(head.bytes) || head.bytes < 0 || head.bytes > MAX_PIECE_BYTES)
      throw new Error('impossible size')
    const { until, follows } = head
    return { meta: { until, ...(follows === undefined ? {} : { follows }) }, rawBytes: head.bytes, at }
  } catch (error) {
    throw damaged(object, error)
  }
}

function damaged(object: string, cause: unknown): RegainError {
  return new RegainError('repository-damaged', `${object} does not hold what it should.`, { cause })
}
