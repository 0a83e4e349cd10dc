import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../../errors.ts'
import { deriveDomainKeys } from './domain-keys.ts'
import {
  FRAME_BYTES,
  HEADER_BYTES,
  Opener,
  openObject,
  plainSize,
  SEALED_FRAME_BYTES,
  Sealer,
  sealedSize,
  sealObject,
} from './sealed.ts'

const keys = deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 1)
const damaged = (error: unknown) => isRegainError(error, 'repository-damaged')
const refused = (error: unknown) => damaged(error) || isRegainError(error, 'repository-version')

/** Sizes around which frames begin and end. */
const sizes = fc.oneof(
  fc.integer({ min: 0, max: 3 * FRAME_BYTES }),
  fc.constantFrom(0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, 2 * FRAME_BYTES + 1),
)

test('what was sealed opens, at every size', () => {
  fc.assert(
    fc.property(sizes, fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.string(), (size, salt, context) => {
      const plain = randomBytes(size)
      const sealed = sealObject(keys, 'L', context, plain, Buffer.from(salt))
      assert.equal(sealed.length, sealedSize(size))
      assert.equal(plainSize(sealed.length, 'x'), size)
      // Not deepEqual: to show how megabytes differ takes it minutes.
      assert.ok(openObject(keys, 'L', context, sealed, 'x').equals(plain))
    }),
    { numRuns: 60 },
  )
})

test('every flipped byte of a small object is refused', () => {
  const sealed = sealObject(keys, 'E', 'ends/a', Buffer.from('a commit'), Buffer.alloc(32, 3))
  for (let at = 0; at < sealed.length; at++)
    for (const mask of [1, 0x80, 0xff]) {
      const changed = Buffer.from(sealed)
      changed[at] = changed[at]! ^ mask
      assert.throws(() => openObject(keys, 'E', 'ends/a', changed, 'x'), refused, `byte ${at}`)
    }
})

test('any flipped bit of a large object is refused', () => {
  const sealed = sealObject(keys, 'L', 'a', randomBytes(2 * FRAME_BYTES + 100), Buffer.alloc(32, 4))
  fc.assert(
    fc.property(fc.integer({ min: 0, max: sealed.length * 8 - 1 }), (bit) => {
      const changed = Buffer.from(sealed)
      changed[bit >>> 3] = changed[bit >>> 3]! ^ (1 << (bit & 7))
      assert.throws(() => openObject(keys, 'L', 'a', changed, 'x'), refused)
    }),
    { numRuns: 100 },
  )
})

test('every truncation and every extension is refused', () => {
  const small = sealObject(keys, 'E', 'ends/a', Buffer.from('a commit'), Buffer.alloc(32, 5))
  for (let length = 0; length < small.length; length++)
    assert.throws(() => openObject(keys, 'E', 'ends/a', small.subarray(0, length), 'x'), damaged, `${length} bytes`)
  const large = sealObject(keys, 'L', 'a', randomBytes(3 * FRAME_BYTES), Buffer.alloc(32, 6))
  // Whole frames cut off: only the mark of the last one tells.
  for (let frames = 1; frames < 3; frames++) {
    const cut = large.subarray(0, HEADER_BYTES + frames * SEALED_FRAME_BYTES)
    assert.throws(() => openObject(keys, 'L', 'a', cut, 'x'), damaged)
  }
  const cuts = fc.integer({ min: 0, max: large.length - 1 })
  fc.assert(
    fc.property(cuts, (length) =>
      assert.throws(() => openObject(keys, 'L', 'a', large.subarray(0, length), 'x'), damaged),
    ),
  )
  for (const more of [1, 16, 17, SEALED_FRAME_BYTES])
    assert.throws(() => openObject(keys, 'L', 'a', Buffer.concat([large, Buffer.alloc(more)]), 'x'), damaged)
})

test('frames cannot change places, nor come from another object of the same plaintext', () => {
  const plain = Buffer.alloc(3 * FRAME_BYTES, 7)
  const one = sealObject(keys, 'L', 'a', plain, Buffer.alloc(32, 7))
  const other = sealObject(keys, 'L', 'a', plain, Buffer.alloc(32, 8))
  const frame = (from: Buffer, n: number) =>
    from.subarray(HEADER_BYTES + n * SEALED_FRAME_BYTES, HEADER_BYTES + (n + 1) * SEALED_FRAME_BYTES)
  const build = (...frames: Buffer[]) => Buffer.concat([one.subarray(0, HEADER_BYTES), ...frames])
  assert.ok(openObject(keys, 'L', 'a', build(frame(one, 0), frame(one, 1), frame(one, 2)), 'x').equals(plain))
  for (const mixed of [
    build(frame(one, 1), frame(one, 0), frame(one, 2)),
    build(frame(one, 0), frame(one, 2), frame(one, 1)),
    build(frame(one, 0), frame(one, 0), frame(one, 2)),
    build(frame(one, 0), frame(other, 1), frame(one, 2)),
  ])
    assert.throws(() => openObject(keys, 'L', 'a', mixed, 'x'), damaged)
})

test('an object is bound to its name, kind, domain, epoch and key', () => {
  const sealed = sealObject(keys, 'S', 'sessions/a', Buffer.from('{}'), Buffer.alloc(32, 9))
  const relabelled = Buffer.from(sealed)
  relabelled.write('E', 6)
  assert.throws(() => openObject(keys, 'S', 'sessions/b', sealed, 'x'), damaged)
  assert.throws(() => openObject(keys, 'E', 'sessions/a', sealed, 'x'), damaged)
  assert.throws(() => openObject(keys, 'E', 'sessions/a', relabelled, 'x'), damaged)
  for (const others of [
    deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 3), 1),
    deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 2),
    deriveDomainKeys(Buffer.alloc(32, 9), Buffer.alloc(16, 2), 1),
  ])
    assert.throws(() => openObject(others, 'S', 'sessions/a', sealed, 'x'), damaged)
})

test('an unknown version is told apart from damage', () => {
  const sealed = sealObject(keys, 'S', 'a', Buffer.from('{}'), Buffer.alloc(32))
  sealed[7] = 2
  assert.throws(
    () => openObject(keys, 'S', 'a', sealed, 'x'),
    (error) => isRegainError(error, 'repository-version'),
  )
})

test('sizes that no object has are refused, and every other size maps back', () => {
  fc.assert(
    fc.property(fc.nat(5 * SEALED_FRAME_BYTES), (size) => {
      let plain: number
      try {
        plain = plainSize(size, 'x')
      } catch (error) {
        assert.ok(damaged(error))
        return
      }
      assert.equal(sealedSize(plain), size)
    }),
    { numRuns: 2000 },
  )
})

test('single frames open in any order', () => {
  const plain = randomBytes(2 * FRAME_BYTES + 5)
  const sealed = sealObject(keys, 'P', '', plain, Buffer.alloc(32, 1))
  const opener = new Opener(keys, 'P', '', sealed.subarray(0, HEADER_BYTES), sealed.length, 'x')
  for (const frame of [2, 0, 1]) {
    const at = HEADER_BYTES + frame * SEALED_FRAME_BYTES
    const opened = opener.open(frame, sealed.subarray(at, Math.min(at + SEALED_FRAME_BYTES, sealed.length)))
    assert.ok(opened.equals(plain.subarray(frame * FRAME_BYTES, (frame + 1) * FRAME_BYTES)))
  }
})

test('a sealer refuses what would break the framing', () => {
  const out = Buffer.alloc(2 * SEALED_FRAME_BYTES)
  const sealer = new Sealer(keys, 'P', '', Buffer.alloc(32, 2))
  assert.throws(() => sealer.seal(Buffer.alloc(FRAME_BYTES - 1), false, out, 0))
  assert.throws(() => sealer.seal(Buffer.alloc(FRAME_BYTES + 1), true, out, 0))
  sealer.seal(Buffer.alloc(3), true, out, 0)
  assert.throws(() => sealer.seal(Buffer.alloc(3), true, out, 0))
})
