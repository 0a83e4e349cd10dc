import { RegainError } from '../../../errors.ts'

/**
 * PostgreSQL's frontend/backend protocol 3.0 as replication needs it: only the simple query protocol, CopyOut and
 * CopyBoth. A message is a type byte, a length (which counts itself, not the type) and a body.
 */
export const MESSAGE = {
  commandComplete: 0x43, // C
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyFail: 0x66, // f
  copyBoth: 0x57, // W
  copyIn: 0x47, // G
  copyOut: 0x48, // H
  dataRow: 0x44, // D
  error: 0x45, // E
  notice: 0x4e, // N
  parameterStatus: 0x53, // S
  query: 0x51, // Q
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
  terminate: 0x58, // X
} as const

/** Nothing but CopyData is ever large; a length beyond this means that we lost the framing. */
const MAX_BODY_BYTES = 16 * 1024 * 1024

export interface MessageHandler {
  /**
   * A piece of a CopyData body, in order, uncopied: valid only until the call returns. `first` and `last` mark the borders of the message; the first piece of a message holds at least one byte.
   */
  copyData(piece: Buffer, first: boolean, last: boolean): void
  /** Any other message, whole. */
  message(type: number, body: Buffer): void
}

/** Cuts a byte stream into messages. Memory: one message other than CopyData. */
export class MessageParser {
  readonly #handler: MessageHandler
  /** Type and length of the next message while they are not whole. */
  readonly #header = Buffer.alloc(5)
  #headerBytes = 0
  /** Of the message being read; 0 between messages. */
  #type = 0
  #remaining = 0
  #first = false
  #body: Buffer[] = []

  constructor(handler: MessageHandler) {
    this.#handler = handler
  }

  /** Calls the handler for all that `chunk` completes. Throws `source-unavailable` when the framing makes no sense. */
  push(chunk: Buffer): void {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#type === 0) {
        offset = this.#readHeader(chunk, offset)
        continue
      }
      const end = Math.min(chunk.length, offset + this.#remaining)
      this.#take(chunk.subarray(offset, end))
      offset = end
    }
  }

  #readHeader(chunk: Buffer, offset: number): number {
    const copied = chunk.copy(this.#header, this.#headerBytes, offset, offset + 5 - this.#headerBytes)
    this.#headerBytes += copied
    if (this.#headerBytes < 5) return offset + copied
    this.#headerBytes = 0
    const type = this.#header[0] ?? 0
    const length = this.#header.readUInt32BE(1) - 4
    const limit = type === MESSAGE.copyData ? 0x7fffffff : MAX_BODY_BYTES
    if (type === 0 || length < 0 || length > limit) {
      throw new RegainError(
        'source-unavailable',
        'The connection to PostgreSQL brought bytes that are not its protocol.',
      )
    }
    this.#type = type
    this.#remaining = length
    this.#first = true
    if (length === 0) this.#take(Buffer.alloc(0))
    return offset + copied
  }

  #take(piece: Buffer): void {
    this.#remaining -= piece.length
    const last = this.#remaining === 0
    const type = this.#type
    if (last) this.#type = 0
    if (type === MESSAGE.copyData) {
      const first = this.#first
      this.#first = false
      this.#handler.copyData(piece, first, last)
      return
    }
    if (!last) {
      // The chunk's memory is used again for the next one.
      this.#body.push(Buffer.from(piece))
      return
    }
    const body = this.#body.length === 0 ? piece : Buffer.concat([...this.#body, piece])
    this.#body = []
    this.#handler.message(type, body)
  }
}

/** A whole message, ready to be sent. */
export function encodeMessage(type: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const message = Buffer.allocUnsafe(5 + body.length)
  message[0] = type
  message.writeUInt32BE(4 + body.length, 1)
  body.copy(message, 5)
  return message
}

export function encodeQuery(sql: string): Buffer {
  return encodeMessage(MESSAGE.query, Buffer.from(`${sql}\0`))
}

/** What the server said went wrong: SQLSTATE, and its own words. */
export class ServerError extends Error {
  /** 'ERROR', 'FATAL', 'PANIC', in English whatever the server's language. */
  readonly severity: string
  /** SQLSTATE, five characters. */
  readonly sqlState: string
  readonly detail: string
  readonly serverHint: string

  constructor(fields: { severity: string; sqlState: string; message: string; detail: string; hint: string }) {
    super(fields.message)
    this.name = 'ServerError'
    this.severity = fields.severity
    this.sqlState = fields.sqlState
    this.detail = fields.detail
    this.serverHint = fields.hint
  }
}

/** Reads an ErrorResponse or NoticeResponse: zero-ended strings, each with a field letter before it. */
export function parseServerError(body: Buffer): ServerError {
  const fields = new Map<string, string>()
  for (let offset = 0; offset < body.length && body[offset] !== 0; ) {
    const end = stringEnd(body, offset + 1)
    fields.set(String.fromCharCode(body[offset] ?? 0), body.toString('utf8', offset + 1, end))
    offset = end + 1
  }
  return new ServerError({
    severity: fields.get('V') ?? fields.get('S') ?? 'ERROR',
    sqlState: fields.get('C') ?? '',
    message: fields.get('M') ?? 'unknown error',
    detail: fields.get('D') ?? '',
    hint: fields.get('H') ?? '',
  })
}

/** Column names of a RowDescription. */
export function parseRowDescription(body: Buffer): string[] {
  const columns: string[] = []
  let offset = 2
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    const end = stringEnd(body, offset)
    columns.push(body.toString('utf8', offset, end))
    // Behind the name: table, column, type, its size and modifier, format: 18 bytes.
    offset = end + 1 + 18
  }
  return columns
}

/** Values of a DataRow in text format; null is SQL's null. */
export function parseDataRow(body: Buffer): (string | null)[] {
  const values: (string | null)[] = []
  let offset = 2
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    const length = body.readInt32BE(offset)
    offset += 4
    values.push(length < 0 ? null : body.toString('utf8', offset, offset + length))
    offset += Math.max(0, length)
  }
  return values
}

function stringEnd(body: Buffer, from: number): number {
  const end = body.indexOf(0, from)
  return end < 0 ? body.length : end
}
