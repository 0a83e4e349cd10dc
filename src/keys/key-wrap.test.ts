import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { kekId, unwrapKey, wrapKey } from './key-wrap.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

describe('key wrap', () => {
  it('agrees with RFC 3394, 4.6', () => {
    const kek = hex('000102030405060708090A0B0C0D0E0F 101112131415161718191A1B1C1D1E1F')
    const key = hex('00112233445566778899AABBCCDDEEFF 000102030405060708090A0B0C0D0E0F')
    const wrapped = hex('28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21')
    assert.deepEqual(wrapKey(kek, key), wrapped)
    assert.deepEqual(unwrapKey(kek, wrapped), key)
  })

  it('finds every changed bit', () => {
    const kek = randomBytes(32)
    const wrapped = wrapKey(kek, randomBytes(32))
    for (let bit = 0; bit < 320; bit++) {
      const changed = Buffer.from(wrapped)
      changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7))
      assert.equal(unwrapKey(kek, changed), null)
    }
    assert.equal(unwrapKey(randomBytes(32), wrapped), null)
  })

  it('takes a KEK or key of another length for the bug that it is', () => {
    assert.throws(() => wrapKey(randomBytes(32), randomBytes(16)))
    assert.throws(() => wrapKey(randomBytes(16), randomBytes(32)))
    assert.throws(() => unwrapKey(randomBytes(16), randomBytes(40)))
  })

  // Computed with Python's hmac and hashlib.
  it('names a KEK by an HMAC', () => {
    assert.equal(kekId(hex('683ca9b05ad6c8b51c001cb0cb939ccbb0ece5f855e3b51badca1b11489d1fe1')), 'c634b33da4003cf6')
  })
})
