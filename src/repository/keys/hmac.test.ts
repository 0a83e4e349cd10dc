import assert from 'node:assert/strict'
import { createHmac, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Hmac } from './hmac.ts'

test("digests are node:crypto's, of every length around a block, one after the other", () => {
  const data = randomBytes(1024 * 1024)
  for (const keyBytes of [0, 1, 32, 63, 64]) {
    const key = randomBytes(keyBytes)
    const hmac = new Hmac(key)
    const digests: Buffer[] = []
    const lengths = [0, 1, 31, 55, 56, 57, 63, 64, 65, 119, 120, 128, 4096, data.length]
    for (const length of lengths) digests.push(hmac.digest(data.subarray(data.length - length)))
    for (const [i, length] of lengths.entries()) {
      const expected = createHmac('sha256', key)
        .update(data.subarray(data.length - length))
        .digest('hex')
      assert.equal(digests[i]?.toString('hex'), expected, `key of ${keyBytes}, message of ${length} bytes`)
    }
  }
})

test('RFC 4231, cases 1 and 2; a key longer than a block is refused', () => {
  const hmac = new Hmac(Buffer.alloc(20, 0x0b))
  assert.equal(
    hmac.digest(Buffer.from('Hi There')).toString('hex'),
    'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
  )
  assert.equal(
    new Hmac(Buffer.from('Jefe')).digest(Buffer.from('what do ya want for nothing?')).toString('hex'),
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  )
  assert.throws(() => new Hmac(Buffer.alloc(65)), /too long/)
})

test('pairs have the digests that their messages have alone, however much of them is the same', () => {
  const key = randomBytes(32)
  const hmac = new Hmac(key)
  const expected = (message: Uint8Array) => createHmac('sha256', key).update(message).digest('hex')
  for (const length of [0, 1, 63, 64, 65, 128, 8192, 131_071, 131_072]) {
    for (const same of new Set([0, 1, 63, 64, 100, Math.floor(length / 2), length - 1, length])) {
      if (same < 0 || same > length) continue
      // Views within something larger, one of it shared: as threads have them.
      const a = new Uint8Array(new SharedArrayBuffer(length + 3)).subarray(3)
      a.set(randomBytes(length))
      const b = randomBytes(length + 1).subarray(1)
      b.set(a.subarray(0, same))
      const digests = hmac.digestPair(a, b, same).map((digest) => digest.toString('hex'))
      assert.deepEqual(digests, [expected(a), expected(b)], `${length} bytes, the first ${same} the same`)
    }
  }
  assert.throws(() => hmac.digestPair(Buffer.alloc(64), Buffer.alloc(65), 0), /no pair/)
  assert.throws(() => hmac.digestPair(Buffer.alloc(64), Buffer.alloc(64), 65), /no pair/)
})

test('bytes that threads share are hashed as any others', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(1000)).fill(7)
  const key = randomBytes(32)
  const expected = createHmac('sha256', key).update(Buffer.alloc(900, 7)).digest()
  assert.ok(new Hmac(key).digest(shared.subarray(100)).equals(expected))
})
