import { DecryptCommand, EncryptCommand, KMSClient } from '@aws-sdk/client-kms'
import { RegainError } from '../errors.ts'
import type { KeyContext, KeyProvider, WrappedKey } from './contract.ts'
import { KEY_BYTES } from './key-wrap.ts'
import { requireSafeAddress, serviceKekName, unavailable } from './service-kek.ts'

export interface AwsKmsConfig {
  /** ARN, id or alias ('alias/regain') of a symmetric key. */
  key: string
  /** The AWS SDK's own search if left out. */
  region?: string
  /** https, or http to this machine itself. */
  endpoint?: string
  /** Null: the AWS SDK's own search. */
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
}

const CONNECT_TIMEOUT_MS = 10_000
const SILENCE_TIMEOUT_MS = 15_000

/**
 * A KEK in AWS KMS, which wraps and unwraps; the KEK never leaves it. What it wraps is bound to domain and epoch by the
 * encryption context, which CloudTrail records with every use.
 */
export function openAwsKmsKey(config: AwsKmsConfig): KeyProvider {
  return new AwsKmsKey(config)
}

class AwsKmsKey implements KeyProvider {
  readonly type = 'aws-kms'
  readonly description: string
  readonly #config: AwsKmsConfig
  readonly #client: KMSClient

  constructor(config: AwsKmsConfig) {
    const { key, region, endpoint, credentials } = config
    this.#config = config
    this.description = `AWS KMS key ${key}`
    if (endpoint !== undefined) requireSafeAddress(endpoint, this.description)
    this.#client = new KMSClient({
      ...(region === undefined ? {} : { region }),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(credentials === null ? {} : { credentials }),
      requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, socketTimeout: SILENCE_TIMEOUT_MS },
    })
  }

  async wrap(key: Buffer, about: KeyContext): Promise<WrappedKey> {
    const command = new EncryptCommand({ KeyId: this.#config.key, Plaintext: key, EncryptionContext: bound(about) })
    const { CiphertextBlob } = await this.#reach(() => this.#client.send(command))
    if (!CiphertextBlob) throw unavailable(this.description, 'gave no ciphertext')
    return { type: this.type, kek: this.#kek(), wrapped: Buffer.from(CiphertextBlob).toString('base64') }
  }

  async unwrap(wrapped: WrappedKey, about: KeyContext): Promise<Buffer | null> {
    const blob = Buffer.from(wrapped.wrapped, 'base64')
    if (wrapped.type !== this.type || blob.length === 0) return null
    const command = new DecryptCommand({
      KeyId: this.#config.key,
      CiphertextBlob: blob,
      EncryptionContext: bound(about),
    })
    const answer = await this.#reach(() => this.#client.send(command), FOREIGN)
    if (answer === null) return null
    const key = Buffer.from(answer.Plaintext ?? [])
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
    return serviceKekName(this.type, this.#config.region ?? '', this.#config.key)
  }

  async #reach<T>(call: () => Promise<T>): Promise<T>
  async #reach<T>(call: () => Promise<T>, foreign: readonly string[]): Promise<T | null>
  async #reach<T>(call: () => Promise<T>, foreign: readonly string[] = []): Promise<T | null> {
    try {
      return await call()
    } catch (error) {
      const { name, message } = error as Error
      if (foreign.includes(name)) return null
      throw unavailable(this.description, `can't be used (${name}: ${message.slice(0, 200)})`, error)
    }
  }
}

/** Not of this key, or of another domain or epoch, or changed: KMS does not tell them apart. */
const FOREIGN = ['InvalidCiphertextException', 'IncorrectKeyException']

function bound({ domain, epoch }: KeyContext): Record<string, string> {
  return { 'regain:domain': domain, 'regain:epoch': String(epoch) }
}
