import { RegainError } from '../errors.ts'
import { errnoName } from '../filesystem/durable.ts'
import type { Ambient } from '../model.ts'
import { type Argon2idParameters, deriveKek, isAtLeast, STRENGTH } from './argon2id.ts'
import type { KeyProvider, WrappedKey } from './contract.ts'
import { kekId, unwrapKey, wrapKey } from './key-wrap.ts'

/**
 * A KEK derived from a passphrase by argon2id. `getPassphrase` is called on first use, once if it succeeds, and gives
 * the passphrase without its line's end; its failure, like an empty passphrase, rejects with `key-unavailable`.
 *
 * The passphrase is taken in Unicode normalisation form C, as UTF-8: keyboards and systems differ in whether é is one
 * code point or two, and the same passphrase must open the repository from all of them. No other change is made to it.
 * Passphrase and KEKs stay in memory for as long as the provider does.
 */
export function openPassphrase(getPassphrase: () => Promise<string>, randomBytes: Ambient['randomBytes']): KeyProvider {
  return new PassphraseKey(getPassphrase, randomBytes)
}

/** KEKs kept; a repository has one or two, a hostile one any number. */
const CACHE_SIZE = 8

class PassphraseKey implements KeyProvider {
  readonly type = 'passphrase'
  readonly description = 'passphrase'
  readonly #getPassphrase: () => Promise<string>
  readonly #randomBytes: Ambient['randomBytes']
  #passphrase: Buffer | null = null
  /** By salt and parameters, least recently used first. */
  readonly #keks = new Map<string, Buffer>()
  /** Derivations follow one another: each takes much memory. */
  #turn: Promise<unknown> = Promise.resolve()
  /** Under which new keys are wrapped: those of a key that opened, so that one derivation opens all of a repository. */
  #current: Argon2idParameters | null = null

  constructor(getPassphrase: () => Promise<string>, randomBytes: Ambient['randomBytes']) {
    this.#getPassphrase = getPassphrase
    this.#randomBytes = randomBytes
  }

  async wrap(key: Buffer): Promise<WrappedKey> {
    this.#current ??= { salt: this.#randomBytes(16).toString('hex'), ...STRENGTH }
    const argon2id = this.#current
    const kek = await this.#kek(argon2id)
    return { type: this.type, kek: kekId(kek), wrapped: wrapKey(kek, key).toString('base64'), argon2id }
  }

  async unwrap(wrapped: WrappedKey): Promise<Buffer | null> {
    if (!wrapped.argon2id) return null
    const kek = await this.#kek(wrapped.argon2id)
    const key = unwrapKey(kek, Buffer.from(wrapped.wrapped, 'base64'))
    if (key !== null && isAtLeast(wrapped.argon2id, STRENGTH)) this.#current = wrapped.argon2id
    return key
  }

  async kekName(argon2id?: Argon2idParameters): Promise<string | null> {
    return argon2id ? kekId(await this.#kek(argon2id)) : null
  }

  /** Rejects with `wrong-key` if the passphrase does not open the key given: what is exported must be good for it. */
  async exportKey(wrapped: WrappedKey): Promise<Buffer | null> {
    const key = await this.unwrap(wrapped)
    if (key === null || !wrapped.argon2id) {
      throw new RegainError('wrong-key', 'The passphrase does not open this repository.')
    }
    key.fill(0)
    return Buffer.from(await this.#kek(wrapped.argon2id))
  }

  #kek(parameters: Argon2idParameters): Promise<Buffer> {
    const kek = this.#turn.then(() => this.#deriveOnce(parameters))
    // The next in turn goes on whatever became of this one, whose caller hears of it.
    this.#turn = kek.catch(() => undefined)
    return kek
  }

  async #deriveOnce(parameters: Argon2idParameters): Promise<Buffer> {
    const { salt, memoryKiB, passes, parallelism } = parameters
    const name = JSON.stringify([salt, memoryKiB, passes, parallelism])
    const kek = this.#keks.get(name) ?? (await deriveKek(await this.#passphraseBytes(), parameters))
    this.#keks.delete(name)
    this.#keks.set(name, kek)
    if (this.#keks.size > CACHE_SIZE) this.#keks.delete(this.#keks.keys().next().value!)
    return kek
  }

  async #passphraseBytes(): Promise<Buffer> {
    this.#passphrase ??= Buffer.from((await this.#ask()).normalize('NFC'), 'utf8')
    return this.#passphrase
  }

  async #ask(): Promise<string> {
    let passphrase: string
    try {
      passphrase = await this.#getPassphrase()
    } catch (error) {
      if (error instanceof RegainError) throw error
      // The cause stays out of it: what went wrong while a passphrase was read may quote it.
      throw noPassphrase(`could not be had${errnoName(error) ? ` (${errnoName(error)})` : ''}`)
    }
    if (passphrase === '') throw noPassphrase('is empty')
    return passphrase
  }
}

function noPassphrase(problem: string): RegainError {
  return new RegainError('key-unavailable', `The passphrase ${problem}. Nothing was changed.`, {
    hint: 'Check where the passphrase comes from.',
  })
}
