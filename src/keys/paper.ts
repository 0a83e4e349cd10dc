import { createHash } from 'node:crypto'
import { KEY_BYTES } from './key-wrap.ts'

/**
 * A key for paper (docs/format.md, Keys), made to be typed in again by a person: four numbered lines of eight bytes as
 * hex digits in groups of four, each with a check of its own, so that a mistake is told with its line. Without the
 * checks, the digits are those that `regain key export` shows.
 */
export const PAPER_TAG = 'regain-paper-1'

const LINES = 4
const LINE_BYTES = KEY_BYTES / LINES
const LINE = new RegExp(`^[1-${LINES}][0-9a-f]{${LINE_BYTES * 2 + 4}}$`)

/** What is no hex digit, and what a reader may take one for. */
const LOOKALIKES: Record<string, string> = { o: '0', i: '1', l: '1', s: '5', z: '2' }

/** `about`: lines of comment that tell the papers in a safe apart. */
export function paperText(kek: Buffer, about: readonly string[]): string {
  const comments = [
    'A KEY TO BACKUPS MADE BY REGAIN, for the safe. Who has it and the backups can read them.',
    ...about,
    'To use it: type the five lines below into a file, and name that as key file; or run: regain key import FILE',
    'Each line is its number, the key in groups of four digits (0-9, a-f), and after the gap the check of the line.',
  ]
  const lines = Array.from({ length: LINES }, (_, i) => {
    const digits = kek.toString('hex', i * LINE_BYTES, (i + 1) * LINE_BYTES)
    return `${i + 1}   ${(digits.match(/.{4}/g) as string[]).join(' ')}   ${check(i + 1, digits)}`
  })
  return `${comments.map((line) => `# ${line}`).join('\n')}\n\n${PAPER_TAG}\n${lines.join('\n')}\n`
}

/** The lines that follow the tag, in any order. The problem is the end of a sentence that never holds a part of the key. */
export function parsePaper(lines: readonly string[]): { kek: Buffer } | { problem: string } {
  const parts = new Map<number, string>()
  const mistyped: number[] = []
  for (const [i, line] of lines.entries()) {
    const typed = line
      .toLowerCase()
      .replace(/[\s:.-]/g, '')
      .replace(/[oilsz]/g, (letter) => LOOKALIKES[letter] as string)
    if (!LINE.test(typed))
      return { problem: `holds a printed key, whose line ${i + 1} is not a number, 16 hex digits and 4 of a check` }
    const number = Number(typed[0])
    const digits = typed.slice(1, 1 + LINE_BYTES * 2)
    if (parts.has(number)) return { problem: `holds a printed key with two lines of the number ${number}` }
    parts.set(number, digits)
    if (check(number, digits) !== typed.slice(1 + LINE_BYTES * 2)) mistyped.push(number)
  }
  if (parts.size !== LINES) return { problem: `holds a printed key with ${parts.size} lines where there are ${LINES}` }
  if (mistyped.length > 0)
    return { problem: `holds a printed key that was mistyped: look at line ${mistyped.sort().join(' and ')}` }
  return { kek: Buffer.from(Array.from({ length: LINES }, (_, i) => parts.get(i + 1)).join(''), 'hex') }
}

function check(number: number, digits: string): string {
  return createHash('sha256')
    .update(`regain paper key ${number}`)
    .update(Buffer.from(digits, 'hex'))
    .digest('hex')
    .slice(0, 4)
}
