import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  encodeMessage,
  MESSAGE,
  MessageParser,
  parseDataRow,
  parseRowDescription,
  parseServerError,
} from './protocol.ts'

type Message = { type: number; body: Buffer }

function parse(bytes: Buffer, cuts: number[]): Message[] {
  const messages: Message[] = []
  let copy: Buffer[] | null = null
  const parser = new MessageParser({
    copyData(piece, first, last) {
      assert.equal(first, copy === null)
      assert.ok(!first || piece.length > 0 || last)
      copy = [...(copy ?? []), Buffer.from(piece)]
      if (!last) return
      messages.push({ type: MESSAGE.copyData, body: Buffer.concat(copy) })
      copy = null
    },
    message: (type, body) => messages.push({ type, body: Buffer.from(body) }),
  })
  let offset = 0
  for (const cut of [...cuts].sort((a, b) => a - b).concat(bytes.length)) {
    if (cut <= offset) continue
    // The chunk's memory is reused by the socket: what the parser keeps must be its own.
    const chunk = Buffer.from(bytes.subarray(offset, cut))
    parser.push(chunk)
    chunk.fill(0xee)
    offset = Math.min(cut, bytes.length)
  }
  return messages
}

test('messages come out as they were, however the stream is cut', () => {
  const message = fc.record({
    type: fc.constantFrom(MESSAGE.copyData, MESSAGE.dataRow, MESSAGE.notice, MESSAGE.readyForQuery),
    body: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  })
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(2000), { maxLength: 40 }), (messages, cuts) => {
      const bytes = Buffer.concat(messages.map(({ type, body }) => encodeMessage(type, body)))
      const plain = (list: Message[]): [number, Buffer][] => list.map(({ type, body }) => [type, body])
      assert.deepEqual(plain(parse(bytes, cuts)), plain(messages))
    }),
  )
})

test('bytes that are not the protocol are noticed instead of waited for', () => {
  const huge = Buffer.from([MESSAGE.dataRow, 0x7f, 0xff, 0xff, 0xff])
  const short = Buffer.from([MESSAGE.dataRow, 0, 0, 0, 3])
  for (const bytes of [huge, short, Buffer.from('\0HTTP')])
    assert.throws(() => parse(bytes, []), { code: 'source-unavailable' })
})

test('errors, rows and columns are read', () => {
  const error = parseServerError(Buffer.from('SFEHLER\0VERROR\0C58P01\0Mgone\0Dwhich one\0Hlook\0\0'))
  assert.deepEqual(
    [error.severity, error.sqlState, error.message, error.detail, error.serverHint],
    ['ERROR', '58P01', 'gone', 'which one', 'look'],
  )
  const columns = Buffer.concat([
    Buffer.from([0, 2]),
    Buffer.from('a\0'),
    Buffer.alloc(18),
    Buffer.from('bé\0'),
    Buffer.alloc(18),
  ])
  assert.deepEqual(parseRowDescription(columns), ['a', 'bé'])
  const row = Buffer.concat([
    Buffer.from([0, 3, 0, 0, 0, 2]),
    Buffer.from('hi'),
    Buffer.from([255, 255, 255, 255, 0, 0, 0, 0]),
  ])
  assert.deepEqual(parseDataRow(row), ['hi', null, ''])
})
