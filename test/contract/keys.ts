import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { type ErrorCode, isRegainError } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { kekId, unwrapKey } from '../../src/keys/key-wrap.ts'

/** What wrapped keys are bound to, where their service can. */
const ABOUT = { domain: '00112233445566778899aabbccddeeff', epoch: 1 }

export interface KeysUnderTest {
  /** A KEK of its own. */
  keys: KeyProvider
  /** The same KEK, opened anew. */
  same(): Promise<KeyProvider>
  /** Of the same type, with another KEK. */
  other(): Promise<KeyProvider>
  /** The same KEK, which cannot be had now. */
  unavailable(): Promise<KeyProvider>
  dispose(): Promise<void>
  /** What a key service writes before the base64 of its own; absent: RFC 3394, by a KEK that is at hand. */
  servicePrefix?: string
}

/** What src/keys/contract.ts promises, checked against one driver. */
export function keysContract(driver: string, open: () => Promise<KeysUnderTest>): void {
  const promises = (what: string, check: (under: KeysUnderTest) => Promise<void>) =>
    it(what, async () => {
      const under = await open()
      try {
        await check(under)
      } finally {
        await under.dispose()
      }
    })

  describe(`keys contract: ${driver}`, () => {
    promises('gives back what it wrapped, also after JSON and from a new start', async ({ keys, same }) => {
      const key = randomBytes(32)
      const before = Buffer.from(key)
      const wrapped = JSON.parse(JSON.stringify(await keys.wrap(key, ABOUT)))
      assert.ok(key.equals(before), 'the key given is left as it is')
      assert.ok((await keys.unwrap(wrapped, ABOUT))?.equals(key))
      assert.ok((await (await same()).unwrap(wrapped, ABOUT))?.equals(key))
      assert.ok((await keys.unwrap(await keys.wrap(key, ABOUT), ABOUT))?.equals(key))
    })

    promises('writes the form that the repository keeps', async ({ keys, servicePrefix }) => {
      const wrapped = await keys.wrap(randomBytes(32), ABOUT)
      assert.equal(wrapped.type, keys.type)
      assert.match(wrapped.kek, /^[0-9a-f]{16}$/)
      const [prefix, bytes] = parts(wrapped.wrapped, servicePrefix)
      if (servicePrefix === undefined) assert.equal(bytes.length, 40)
      assert.equal(prefix + bytes.toString('base64'), wrapped.wrapped)
    })

    promises('gives null for keys of another KEK', async ({ keys, other }) => {
      const stranger = await other()
      const wrapped = await keys.wrap(randomBytes(32), ABOUT)
      const strange = await stranger.wrap(randomBytes(32), ABOUT)
      assert.equal(await stranger.unwrap(wrapped, ABOUT), null)
      assert.equal(await keys.unwrap(strange, ABOUT), null)
      assert.notEqual(wrapped.kek, strange.kek)
      assert.ok(await keys.unwrap(wrapped, ABOUT), 'a miss does no harm')
    })

    promises(
      'gives null for a wrapped key with any bit changed, cut, longer or no base64',
      async ({ keys, servicePrefix }) => {
        const wrapped = await keys.wrap(randomBytes(32), ABOUT)
        const [prefix, bytes] = parts(wrapped.wrapped, servicePrefix)
        for (let bit = 0; bit < bytes.length * 8; bit += 7) {
          const changed = Buffer.from(bytes)
          changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7))
          assert.equal(
            await keys.unwrap({ ...wrapped, wrapped: prefix + changed.toString('base64') }, ABOUT),
            null,
            `bit ${bit}`,
          )
        }
        for (const length of [0, 8, 32, 39]) {
          const cut = prefix + bytes.subarray(0, length).toString('base64')
          assert.equal(await keys.unwrap({ ...wrapped, wrapped: cut }, ABOUT), null, `${length} bytes`)
        }
        const longer = prefix + Buffer.concat([bytes, Buffer.alloc(8)]).toString('base64')
        for (const text of [longer, '', '*', 'é'])
          assert.equal(await keys.unwrap({ ...wrapped, wrapped: text }, ABOUT), null)
      },
    )

    promises('names the KEK that it wrapped with, and no other', async ({ keys, same, other }) => {
      const { kek, argon2id } = await keys.wrap(randomBytes(32), ABOUT)
      assert.equal(await (await same()).kekName(argon2id), kek)
      assert.notEqual(await (await other()).kekName(argon2id), kek)
    })

    promises('a key that its service binds to domain and epoch opens for no other', async ({ keys, servicePrefix }) => {
      if (servicePrefix === undefined) return
      const wrapped = await keys.wrap(randomBytes(32), ABOUT)
      assert.equal(await keys.unwrap(wrapped, { ...ABOUT, epoch: 2 }), null)
      assert.equal(await keys.unwrap(wrapped, { ...ABOUT, domain: 'f'.repeat(32) }), null)
    })

    promises('exports the KEK of a key that it opens, and of no other', async ({ keys, other }) => {
      const key = randomBytes(32)
      const wrapped = await keys.wrap(key, ABOUT)
      const kek = await keys.exportKey(wrapped, ABOUT)
      if (kek === null) return
      assert.equal(kek.length, 32)
      assert.equal(kekId(kek), wrapped.kek)
      assert.ok(unwrapKey(kek, Buffer.from(wrapped.wrapped, 'base64'))?.equals(key))
      kek.fill(0)
      assert.ok((await keys.unwrap(wrapped, ABOUT))?.equals(key), 'the KEK given out is a copy')
      await rejectsWith('wrong-key', (await other()).exportKey(wrapped, ABOUT))
    })

    promises('tells a KEK that cannot be had from a wrong one', async ({ keys, unavailable }) => {
      const wrapped = await keys.wrap(randomBytes(32), ABOUT)
      const away = await unavailable()
      await rejectsWith('key-unavailable', away.unwrap(wrapped, ABOUT))
      await rejectsWith('key-unavailable', away.wrap(randomBytes(32), ABOUT))
      await rejectsWith('key-unavailable', away.exportKey(wrapped, ABOUT))
    })

    promises('serves calls at the same time', async ({ keys, same }) => {
      const wanted = Array.from({ length: 20 }, () => randomBytes(32))
      const wrapped = await Promise.all(wanted.map((key) => keys.wrap(key, ABOUT)))
      const again = await same()
      const keysBack = await Promise.all(wrapped.map((each) => again.unwrap(each, ABOUT)))
      assert.deepEqual(keysBack, wanted)
    })
  })
}

export async function rejectsWith(code: ErrorCode, outcome: Promise<unknown>): Promise<void> {
  await assert.rejects(outcome, (error) => {
    assert.ok(isRegainError(error), `expected ${code}, got ${error}`)
    assert.equal(error.code, code, error.message)
    return true
  })
}

function parts(wrapped: string, prefix = ''): [string, Buffer] {
  assert.ok(wrapped.startsWith(prefix))
  return [prefix, Buffer.from(wrapped.slice(prefix.length), 'base64')]
}
