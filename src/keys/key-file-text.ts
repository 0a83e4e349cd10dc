import { createHash } from 'node:crypto'
import { KEY_BYTES } from './key-wrap.ts'
import { PAPER_TAG, parsePaper } from './paper.ts'

/**
 * The text of a key file, version 1: lines of comment that begin with `#`, and one line
 * `regain-key-1:<base64 of the 32 bytes>:<first 8 hex digits of their SHA-256>`. The check finds a copy that was
 * mistyped or cut off; eight digits of a hash reveal nothing useful of 256 random bits.
 */
const TAG = 'regain-key-1'

/** As `regain key export` shows a key, without a check: only the repository tells whether it is the right one. */
const HEX_LINE = /^[0-9A-Fa-f]{64}$/

const KEY_LINE = /^regain-key-1:([A-Za-z0-9+/]{43}=):([0-9a-f]{8})$/

const COMMENT = `\
# The key to backups made by Regain. Without it they cannot be read, by anyone: keep a copy of this
# file somewhere else, apart from the backups (printed, or in a password manager). Whoever has it can read them.
`

export function keyFileText(kek: Buffer): string {
  return `${COMMENT}${TAG}:${kek.toString('base64')}:${check(kek)}\n`
}

/** Takes a printed key, and 64 hex digits, as well. The KEK, or what is wrong with the text, as the end of a sentence that never holds a part of it. */
export function parseKeyFile(text: string): { kek: Buffer } | { problem: string } {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))

  if (lines.length === 0) return { problem: 'holds no key: it is empty or was cut off' }
  if (lines[0] === PAPER_TAG) return parsePaper(lines.slice(1))
  if (lines.length > 1) return { problem: 'holds more than one line besides comments' }
  if (HEX_LINE.test(lines[0]!)) return { kek: Buffer.from(lines[0]!, 'hex') }
  const match = KEY_LINE.exec(lines[0]!)
  if (!match) return { problem: `is not a key file: its line is not of the form ${TAG}:KEY:CHECK, nor 64 hex digits` }
  const kek = Buffer.from(match[1]!, 'base64')
  if (kek.length === KEY_BYTES && check(kek) === match[2]) return { kek }
  kek.fill(0)
  return { problem: 'holds a key that does not match its check: it was mistyped or damaged' }
}

function check(kek: Buffer): string {
  return createHash('sha256').update(kek).digest('hex').slice(0, 8)
}
