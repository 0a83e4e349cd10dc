import { RegainError } from '../errors.ts'
import type { KeyContext, KeyProvider, WrappedKey } from './contract.ts'
import { KEY_BYTES } from './key-wrap.ts'
import { serviceKekName, unavailable } from './service-kek.ts'
import { type VaultAddress, type VaultAnswer, VaultApi } from './vault-api.ts'

export interface VaultConfig extends VaultAddress {
  /** Where the transit engine is mounted: 'transit'. */
  mount: string
  /** Name of the key there, of an AEAD type such as aes256-gcm96. It is never exported. */
  key: string
}

/**
 * A KEK in the transit engine of HashiCorp Vault: Vault wraps and unwraps, and the KEK never leaves it. What it wraps is
 * bound to domain and epoch as associated data. Throws `config-invalid` for an address without TLS.
 */
export function openVaultKey(config: VaultConfig): KeyProvider {
  return new VaultKey(config)
}

class VaultKey implements KeyProvider {
  readonly type = 'vault'
  readonly description: string
  readonly #config: VaultConfig
  readonly #api: VaultApi

  constructor(config: VaultConfig) {
    this.#config = config
    this.description = `Vault key ${config.mount}/${config.key} at ${config.address}`
    this.#api = new VaultApi(config, this.description)
  }

  async wrap(key: Buffer, about: KeyContext): Promise<WrappedKey> {
    const answer = await this.#call('encrypt', { plaintext: key.toString('base64'), ...bound(about) })
    const { ciphertext } = answer.data
    if (answer.status !== 200 || typeof ciphertext !== 'string') throw this.#refused('encrypt', answer)
    return { type: this.type, kek: this.#kek(), wrapped: ciphertext }
  }

  async unwrap(wrapped: WrappedKey, about: KeyContext): Promise<Buffer | null> {
    if (wrapped.type !== this.type) return null
    const answer = await this.#call('decrypt', { ciphertext: wrapped.wrapped, ...bound(about) })
    if (answer.status === 400 && answer.errors.some(isForeign)) return null
    if (answer.status !== 200) throw this.#refused('decrypt', answer)
    const key = Buffer.from(String(answer.data.plaintext), 'base64')
    if (key.length !== KEY_BYTES) throw unavailable(this.description, 'gave something else than a key')
    return key
  }

  async kekName(): Promise<string> {
    return this.#kek()
  }

  async exportKey(wrapped: WrappedKey, about: KeyContext): Promise<null> {
    const key = await this.unwrap(wrapped, about)
    if (key === null) throw new RegainError('wrong-key', `${this.description} does not open this repository.`)
    key.fill(0)
    return null
  }

  #kek(): string {
    const { address, namespace, mount, key } = this.#config
    return serviceKekName(this.type, address, namespace ?? '', mount, key)
  }

  #call(what: 'encrypt' | 'decrypt', body: Record<string, unknown>): Promise<VaultAnswer> {
    const { mount, key } = this.#config
    return this.#api.write(`${mount}/${what}/${encodeURIComponent(key)}`, body)
  }

  #refused(what: string, { status, errors }: VaultAnswer): RegainError {
    return unavailable(this.description, `refuses to ${what} (${status}: ${errors.join('; ')})`)
  }
}

function bound({ domain, epoch }: KeyContext): { associated_data: string } {
  return { associated_data: Buffer.from(`regain ${domain} ${epoch}`).toString('base64') }
}

/** How Vault says that a ciphertext is not of this key, or was changed (sdk/helper/keysutil/policy.go). */
function isForeign(error: string): boolean {
  return /invalid ciphertext|message authentication failed/.test(error)
}
