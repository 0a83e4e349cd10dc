import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { type ErrorCode, isRegainError, RegainError } from '../errors.ts'
import { type Argon2idParameters, deriveKek } from './argon2id.ts'
import { kekId, wrapKey } from './key-wrap.ts'
import { openPassphrase } from './passphrase.ts'

/** What wrapped keys are bound to, where their service can. */
const ABOUT = { domain: '00112233445566778899aabbccddeeff', epoch: 1 }

/** Cheap ones, as the tests need many; accepted when read, never written. */
const WEAK: Argon2idParameters = { salt: '00112233445566778899aabbccddeeff', memoryKiB: 256, passes: 1, parallelism: 1 }

describe('argon2id', () => {
  // Computed with python3-cryptography 48: the salt is the text itself, the passphrase NFC in UTF-8.
  it('agrees with another implementation', async () => {
    const strong = { ...WEAK, memoryKiB: 65536, passes: 3, parallelism: 4 }
    assert.equal(
      (await deriveKek(Buffer.from('correct horse battery staple'), strong)).toString('hex'),
      '683ca9b05ad6c8b51c001cb0cb939ccbb0ece5f855e3b51badca1b11489d1fe1',
    )
    assert.equal(
      (await deriveKek(Buffer.from('Z\u00fcrich \u00e9t\u00e9'), WEAK)).toString('hex'),
      'e330880b970682ff465ab03f55c598e0bf77145cd991191e18baf70c5f207747',
    )
  })

  it('refuses parameters that could exhaust the machine, or are none', async () => {
    const hostile: Partial<Argon2idParameters>[] = [
      { memoryKiB: 2 ** 30 },
      { memoryKiB: 2 ** 20 + 1 },
      { memoryKiB: 7 },
      { memoryKiB: 64, parallelism: 9 },
      { memoryKiB: Number.NaN },
      { memoryKiB: 256.5 },
      { memoryKiB: -1 },
      { passes: 65 },
      { passes: 0 },
      { memoryKiB: 2 ** 20, passes: 17 },
      { parallelism: 17, memoryKiB: 65536 },
      { parallelism: 0 },
      { salt: '' },
      { salt: '00112233445566778899AABBCCDDEEFF' },
      { salt: `${WEAK.salt}\n` },
      { salt: 'x'.repeat(32) },
    ]
    for (const change of hostile)
      await rejectsWith('repository-damaged', deriveKek(Buffer.from('x'), { ...WEAK, ...change }))
  })
})

describe('passphrase', () => {
  const kekOf = async (passphrase: string) => deriveKek(Buffer.from(passphrase), WEAK)
  const wrappedBy = async (passphrase: string, parameters = WEAK) => {
    const kek = await deriveKek(Buffer.from(passphrase), parameters)
    return { type: 'passphrase', kek: kekId(kek), wrapped: wrapKey(kek, KEY).toString('base64'), argon2id: parameters }
  }
  const KEY = randomBytes(32)

  it('is the same however its letters are composed', async () => {
    const wrapped = await wrappedBy('Z\u00fcrich \u00e9t\u00e9')
    assert.equal(wrapped.kek, '37b78bfe78f25074')
    const decomposed = openPassphrase(async () => 'Zu\u0308rich e\u0301te\u0301', randomBytes)
    assert.deepEqual(await decomposed.unwrap(wrapped, ABOUT), KEY)
    const other = openPassphrase(async () => 'Zurich ete', randomBytes)
    assert.equal(await other.unwrap(wrapped, ABOUT), null)
  })

  it('is asked for once, however many keys there are, and again after a failure', async () => {
    let asked = 0
    const provider = openPassphrase(async () => {
      if (asked++ === 0) throw new Error('not yet')
      return 'secret'
    }, randomBytes)
    const wrapped = await wrappedBy('secret')
    await rejectsWith('key-unavailable', provider.unwrap(wrapped, ABOUT))
    const salts = Array.from({ length: 12 }, (_, i) => `${i}`.padStart(32, '0'))
    const many = await Promise.all(salts.map((salt) => wrappedBy('secret', { ...WEAK, salt })))
    for (const each of await Promise.all([...many, ...many].map((each) => provider.unwrap(each, ABOUT)))) {
      assert.deepEqual(each, KEY)
    }
    assert.equal(asked, 2)
  })

  it('wraps with full strength, under one KEK, that of the repository once it is open', async () => {
    const first = openPassphrase(async () => 'secret', randomBytes)
    const [a, b] = await Promise.all([first.wrap(KEY, ABOUT), first.wrap(randomBytes(32), ABOUT)])
    assert.deepEqual(a.argon2id, { salt: a.argon2id!.salt, memoryKiB: 65536, passes: 3, parallelism: 4 })
    assert.match(a.argon2id!.salt, /^[0-9a-f]{32}$/)
    assert.equal(a.kek, b.kek)

    const later = openPassphrase(async () => 'secret', randomBytes)
    assert.deepEqual(await later.unwrap(a, ABOUT), KEY)
    assert.deepEqual((await later.wrap(KEY, ABOUT)).argon2id, a.argon2id)

    const apart = openPassphrase(async () => 'secret', randomBytes)
    assert.deepEqual(await apart.unwrap(await wrappedBy('secret'), ABOUT), KEY)
    const strong = await apart.wrap(KEY, ABOUT)
    assert.notEqual(strong.argon2id!.salt, a.argon2id!.salt)
    assert.notEqual(strong.argon2id!.salt, WEAK.salt, 'a weak KEK is not used for new keys')
  })

  it('does not open what no passphrase wrapped', async () => {
    const provider = openPassphrase(async () => 'secret', randomBytes)
    const { argon2id: _, ...plain } = await wrappedBy('secret')
    assert.equal(await provider.unwrap(plain, ABOUT), null)
    await rejectsWith('wrong-key', provider.exportKey(plain, ABOUT))
  })

  it('exports the KEK itself', async () => {
    const provider = openPassphrase(async () => 'secret', randomBytes)
    assert.deepEqual(await provider.exportKey(await wrappedBy('secret'), ABOUT), await kekOf('secret'))
  })

  it('never shows in what is printed', async () => {
    const provider = openPassphrase(async () => 'secret', randomBytes)
    await provider.unwrap(await wrappedBy('secret'), ABOUT)
    assert.ok(!inspect(provider, { depth: 10, showHidden: true }).includes('secret'))
    const failing = openPassphrase(() => Promise.reject(new Error('cannot parse: secret')), randomBytes)
    const error = await rejectsWith('key-unavailable', failing.unwrap(await wrappedBy('secret'), ABOUT))
    assert.ok(!inspect(error, { depth: 10 }).includes('cannot parse'))
  })

  it('must not be empty, and may say itself why it cannot be had', async () => {
    const wrapped = await wrappedBy('secret')
    await rejectsWith('key-unavailable', openPassphrase(async () => '', randomBytes).unwrap(wrapped, ABOUT))
    const own = new RegainError('interrupted', 'The question was not answered.')
    await rejectsWith('interrupted', openPassphrase(() => Promise.reject(own), randomBytes).unwrap(wrapped, ABOUT))
  })
})

async function rejectsWith(code: ErrorCode, outcome: Promise<unknown>): Promise<Error> {
  const error = await outcome.then(
    () => assert.fail(`expected ${code}`),
    (reason: unknown) => reason,
  )
  assert.ok(isRegainError(error), `expected ${code}, got ${error}`)
  assert.equal(error.code, code, error.message)
  return error
}
