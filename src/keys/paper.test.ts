import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { parseKeyFile } from './key-file-text.ts'
import { paperText } from './paper.ts'

/** A printed key comes back from what a person types, and every mistake is told with its line. */

const KEK = Buffer.from(Array.from({ length: 32 }, (_, i) => 0xa0 + i))
const TEXT = paperText(KEK, ['service shop'])

test('a printed key has short lines of groups that a person can read out', () => {
  assert.match(TEXT, /\nregain-paper-1\n1 {3}a0a1 a2a3 a4a5 a6a7 {3}[0-9a-f]{4}\n2 {3}a8a9/)
  assert.match(TEXT, /\n# service shop\n/)
  assert.ok(TEXT.split('\n').every((line) => line.length <= 120))
})

test('a printed key comes back, however it is typed', () => {
  const lines = TEXT.split('\n').filter((line) => /^[r1-4]/.test(line))
  const shuffled = [lines[0], lines[3], lines[1], lines[4], lines[2]]
  for (const typed of [
    TEXT,
    TEXT.toUpperCase().replace('REGAIN-PAPER-1', 'regain-paper-1'),
    lines.join('\r\n'),
    shuffled.join('\n'),
    lines.map((line) => (line.startsWith('r') ? line : line.replaceAll(' ', ''))).join('\n'),
    lines
      .map((line) => (line.startsWith('r') ? line : line.replace(/ +/, ': ').replaceAll('0', 'O').replaceAll('5', 's')))
      .join('\n'),
  ])
    assert.deepEqual(parsed(typed), KEK.toString('hex'), typed)
  for (let i = 0; i < 50; i++) {
    const kek = randomBytes(32)
    assert.equal(parsed(paperText(kek, [])), kek.toString('hex'))
  }
})

test('every single wrong digit is told with its line, and no part of the key with it', () => {
  const at = TEXT.indexOf('regain-paper-1\n') + 'regain-paper-1\n'.length
  for (let i = at; i < TEXT.length; i++) {
    if (!/[0-9a-f]/.test(TEXT[i] as string) || TEXT[i - 1] === '\n') continue
    const wrong = `${TEXT.slice(0, i)}${TEXT[i] === '7' ? '8' : '7'}${TEXT.slice(i + 1)}`
    const line = TEXT.slice(at, i).split('\n').length
    assert.equal(problem(wrong), `holds a printed key that was mistyped: look at line ${line}`)
  }
})

test('lines that are missing, doubled, exchanged or no such lines are told', () => {
  const [tag, first, second, ...rest] = TEXT.split('\n').filter((line) => /^[r1-4]/.test(line)) as [
    string,
    string,
    string,
  ]
  const typed = (...lines: string[]) => problem([tag, ...lines].join('\n'))
  assert.match(typed(first, second), /2 lines where there are 4/)
  assert.match(typed(first, first, ...rest), /two lines of the number 1/)
  assert.match(typed(`2${first.slice(1)}`, `1${second.slice(1)}`, ...rest), /mistyped: look at line 1 and 2/)
  assert.match(typed(first.slice(0, -1), second, ...rest), /whose line 1 is not/)
  assert.match(typed(`5${first.slice(1)}`, second, ...rest), /whose line 1 is not/)
})

function parsed(text: string): string | undefined {
  const result = parseKeyFile(text)
  assert.ok('kek' in result, JSON.stringify(result))
  return result.kek.toString('hex')
}

function problem(text: string): string {
  const result = parseKeyFile(text)
  assert.ok('problem' in result)
  return result.problem
}
