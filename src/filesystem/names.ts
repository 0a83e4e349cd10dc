import { isUtf8 } from 'node:buffer'
import { RegainError } from '../errors.ts'
import type { EntryPath } from '../model.ts'

/**
 * File names are bytes; entry paths are strings. The bridge is Python's "surrogateescape" (PEP 383), so that
 * recover.py's os.fsencode gives the same bytes: valid UTF-8 is ordinary text, any other byte B is the lone surrogate
 * U+DC00+B. Decoding is strict: overlong forms and encoded surrogates count as invalid bytes, one escape each.
 *
 * bytesToPath is a bijection from byte strings onto the strings that isPathText accepts; pathToBytes is its inverse.
 */
export function bytesToPath(bytes: Uint8Array): EntryPath {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isUtf8(buffer)) return buffer.toString('utf8')
  return decodeEscaping(buffer)
}

/**
 * A name as `fs` hands it out in encoding 'latin1', one unit per byte: the cheapest form to get from readdir.
 * Plain ASCII, nearly every name there is, is already the answer.
 */
export function latin1ToPath(name: string): EntryPath {
  for (let i = 0; i < name.length; i++) {
    if (name.charCodeAt(i) >= 0x80) return bytesToPath(Buffer.from(name, 'latin1'))
  }
  return name
}

/** The bytes of a path. Throws RegainError `repository-damaged` for a string that no byte string decodes to. */
export function pathToBytes(path: EntryPath): Buffer {
  if (path.isWellFormed()) return Buffer.from(path, 'utf8')
  const bytes = encodeEscaped(path)
  if (bytes === null) throw notAPath(path)
  return bytes
}

/** True if the string is what bytesToPath gives for some bytes: no other lone surrogate, no valid UTF-8 in escapes. */
export function isPathText(path: string): boolean {
  if (path.isWellFormed()) return true
  const bytes = encodeEscaped(path)
  return bytes !== null && bytesToPath(bytes) === path
}

/** A path for one line of a terminal or a log: control characters, escapes and backslashes are written as \n, \xNN, \\. */
export function displayPath(path: EntryPath): string {
  return path.replace(UNPRINTABLE, (unit) => {
    const named = NAMED_ESCAPES[unit]
    if (named !== undefined) return named
    const code = unit.charCodeAt(0)
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
    return `\\u${code.toString(16).padStart(4, '0')}`
  })
}

// Controls (C0, DEL, C1), line separators, bidirectional overrides (they disguise names) and lone surrogates.
const UNPRINTABLE =
  /[\\\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu

const NAMED_ESCAPES: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' }

function notAPath(path: string): RegainError {
  return new RegainError('repository-damaged', `A path is not text that stands for bytes: ${displayPath(path)}`)
}

function decodeEscaping(bytes: Buffer): string {
  let text = ''
  let at = 0
  let validFrom = 0
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at)
    if (length > 0) {
      at += length
      continue
    }
    text += bytes.toString('utf8', validFrom, at) + String.fromCharCode(0xdc00 + (bytes[at] as number))
    at += 1
    validFrom = at
  }
  return text + bytes.toString('utf8', validFrom)
}

/** Bytes of the well-formed UTF-8 sequence that starts here (Unicode 15, table 3-7), or 0. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] as number
  if (lead < 0x80) return 1
  if (lead < 0xc2 || lead > 0xf4) return 0
  const second = bytes[at + 1] ?? 0
  // The second byte's range is what rules out overlong forms, surrogates and values above U+10FFFF.
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf
  if (second < low || second > high) return 0
  if (lead < 0xe0) return 2
  if (!isContinuation(bytes[at + 2])) return 0
  if (lead < 0xf0) return 3
  return isContinuation(bytes[at + 3]) ? 4 : 0
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x80 && byte <= 0xbf
}

/** Null if there is a lone surrogate that is no escape of a byte. */
function encodeEscaped(path: string): Buffer | null {
  const pieces: Buffer[] = []
  let textFrom = 0
  for (let i = 0; i < path.length; i++) {
    const unit = path.charCodeAt(i)
    if (unit < 0xd800 || unit > 0xdfff) continue
    if (unit <= 0xdbff) {
      const next = path.charCodeAt(i + 1)
      if (!(next >= 0xdc00 && next <= 0xdfff)) return null
      i += 1
      continue
    }
    if (unit < 0xdc80 || unit > 0xdcff) return null
    if (i > textFrom) pieces.push(Buffer.from(path.slice(textFrom, i), 'utf8'))
    pieces.push(Buffer.of(unit - 0xdc00))
    textFrom = i + 1
  }
  if (textFrom < path.length) pieces.push(Buffer.from(path.slice(textFrom), 'utf8'))
  return Buffer.concat(pieces)
}
