import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { IncrementalFile, patchedPath } from './incremental-file.ts'

const BLOCK = 8192

/** As the server sends it. */
function encode(truncated: number, blocks: ReadonlyMap<number, number>): Buffer {
  const numbers = [...blocks.keys()]
  const plain = 12 + numbers.length * 4
  const head = Buffer.alloc(numbers.length === 0 ? plain : Math.ceil(plain / BLOCK) * BLOCK)
  head.writeUInt32LE(0xd3ae1f0d, 0)
  head.writeUInt32LE(numbers.length, 4)
  head.writeUInt32LE(truncated, 8)
  for (const [i, number] of numbers.entries()) head.writeUInt32LE(number, 12 + i * 4)
  return Buffer.concat([head, ...[...blocks.values()].map((value) => Buffer.alloc(BLOCK, value))])
}

/** What comes out over an earlier file of blocks filled with 1. */
async function combine(sent: Buffer, earlierBlocks: number, pieces: number): Promise<Buffer> {
  let whole = Buffer.alloc(0)
  let position = 0
  let ended = false
  const file = new IncrementalFile(BLOCK, async (size) => {
    whole = Buffer.alloc(size)
    whole.fill(1, 0, Math.min(size, earlierBlocks * BLOCK))
    return {
      async write(offset, bytes) {
        assert.ok(offset >= position && offset + bytes.length <= size)
        position = offset + bytes.length
        bytes.copy(whole, offset)
      },
      async end() {
        ended = true
      },
    }
  })
  for (let at = 0; at < sent.length; at += pieces) await file.write(sent.subarray(at, at + pieces))
  await file.end()
  assert.ok(ended)
  assert.equal(file.size, whole.length)
  return whole
}

test('blocks that are sent, the earlier file below the truncation length, zeros elsewhere', async () => {
  const cases = fc.record({
    earlier: fc.nat(30),
    truncated: fc.nat(30),
    numbers: fc.uniqueArray(fc.nat(40), { maxLength: 12 }),
    pieces: fc.integer({ min: 1, max: 30_000 }),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ earlier, truncated, numbers, pieces }) => {
      // The server never truncates above what the file had without sending what is new.
      const blocks = new Map(numbers.sort((a, b) => a - b).map((number) => [number, 100 + number]))
      const whole = await combine(encode(truncated, blocks), earlier, pieces)
      const total = Math.max(truncated, ...[...blocks.keys()].map((number) => number + 1))
      assert.equal(whole.length, total * BLOCK)
      for (let number = 0; number < total; number++) {
        const expected = blocks.get(number) ?? (number < truncated && number < earlier ? 1 : 0)
        assert.ok(
          whole.subarray(number * BLOCK, (number + 1) * BLOCK).every((byte) => byte === expected),
          `${number}`,
        )
      }
    }),
    { numRuns: 60 },
  )
})

test('what is cut short, out of order, too long, or something else is refused', async () => {
  const sound = encode(3, new Map([[1, 7]]))
  const refused = { code: 'source-unsuitable' }
  await assert.rejects(combine(sound.subarray(0, sound.length - 1), 3, 5000), refused)
  await assert.rejects(combine(sound.subarray(0, 100), 3, 5000), refused)
  await assert.rejects(combine(Buffer.concat([sound, Buffer.alloc(1)]), 3, 5000), refused)
  const backwards = new Map([
    [2, 7],
    [1, 8],
  ])
  await assert.rejects(combine(encode(3, backwards), 3, 5000), refused)
  await assert.rejects(combine(Buffer.alloc(9000, 1), 3, 5000), refused)
  await assert.rejects(combine(encode(2 ** 31, new Map()), 3, 5000), refused)
})

test('names of files that are sent in part', () => {
  assert.equal(patchedPath('base/5/INCREMENTAL.1259'), 'base/5/1259')
  assert.equal(
    patchedPath('pg_tblspc/16385/PG_18_202506291/5/INCREMENTAL.16400.1'),
    'pg_tblspc/16385/PG_18_202506291/5/16400.1',
  )
  assert.equal(patchedPath('INCREMENTAL.x'), 'x')
  assert.equal(patchedPath('base/5/1259'), null)
  assert.equal(patchedPath('base/INCREMENTAL.5/1259'), null)
})
