import type { Lsn } from './lsn.ts'

/**
 * Messages inside the CopyData of physical replication (PostgreSQL documentation, "Streaming Replication Protocol").
 * From the server: 'w' WAL (start, the server's current end, its clock, then bytes), 'k' keepalive (end, clock, whether
 * to answer at once). To the server: 'r' how far we are.
 */
export const WAL_HEADER_BYTES = 25
export const KEEPALIVE_BYTES = 18

/** PostgreSQL counts microseconds from 2000-01-01 UTC. */
const EPOCH_OFFSET_MS = 946_684_800_000

export interface WalHeader {
  kind: 'wal'
  start: Lsn
  serverEnd: Lsn
  /** The server's clock, ms since 1970. */
  clockMs: number
}

export interface Keepalive {
  kind: 'keepalive'
  serverEnd: Lsn
  clockMs: number
  replyNow: boolean
}

export interface WalReaderHandler {
  header(message: WalHeader | Keepalive): void
  /** WAL behind the last header, from `offset` of `piece` on, uncopied. */
  wal(piece: Buffer, offset: number): void
}

/** Puts the pieces of CopyData together again: headers whole, WAL as it comes. Unknown kinds of messages are skipped. */
export class WalReader {
  readonly #handler: WalReaderHandler
  readonly #header = Buffer.alloc(WAL_HEADER_BYTES)
  #filled = 0

  constructor(handler: WalReaderHandler) {
    this.#handler = handler
  }

  push(piece: Buffer, first: boolean): void {
    if (first) this.#filled = 0
    const length = headerBytes((this.#filled === 0 ? piece[0] : this.#header[0]) ?? 0)
    let offset = 0
    if (this.#filled < length) {
      offset = piece.copy(this.#header, this.#filled, 0, length - this.#filled)
      this.#filled += offset
      if (this.#filled < length) return
      this.#handler.header(parseWalMessage(this.#header))
    }
    if (length === WAL_HEADER_BYTES && offset < piece.length) this.#handler.wal(piece, offset)
  }
}

/** How many bytes the header of a message takes, by its first byte; 0 if it is of no known kind. */
function headerBytes(kind: number): number {
  if (kind === 0x77) return WAL_HEADER_BYTES
  return kind === 0x6b ? KEEPALIVE_BYTES : 0
}

function parseWalMessage(header: Buffer): WalHeader | Keepalive {
  if (header[0] === 0x77) {
    return {
      kind: 'wal',
      start: header.readBigUInt64BE(1),
      serverEnd: header.readBigUInt64BE(9),
      clockMs: clockAt(header, 17),
    }
  }
  return {
    kind: 'keepalive',
    serverEnd: header.readBigUInt64BE(1),
    clockMs: clockAt(header, 9),
    replyNow: header[17] === 1,
  }
}

function clockAt(header: Buffer, offset: number): number {
  return Number(header.readBigInt64BE(offset) / 1000n) + EPOCH_OFFSET_MS
}

/**
 * 'r': what was received, and what is durable. `flushed` frees the server to forget WAL before it, so it may name only
 * what the repository holds durably. `replyNow` asks for a keepalive. 34 bytes.
 */
export function encodeStatus(status: { received: Lsn; flushed: Lsn; nowMs: number; replyNow: boolean }): Buffer {
  const message = Buffer.alloc(34)
  message[0] = 0x72
  message.writeBigUInt64BE(status.received, 1)
  message.writeBigUInt64BE(status.flushed, 9)
  // Nothing is applied here: zero is "not known".
  message.writeBigUInt64BE(0n, 17)
  message.writeBigInt64BE(BigInt(Math.round(status.nowMs) - EPOCH_OFFSET_MS) * 1000n, 25)
  message[33] = status.replyNow ? 1 : 0
  return message
}
