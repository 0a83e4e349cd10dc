/**
 * A key-encryption key (KEK): what a person or a key service holds. It only ever wraps and unwraps the 32-byte keys of
 * key domains; it never touches data. Every driver passes test/contract/keys.ts.
 */
export interface KeyProvider {
  /** 'file', 'passphrase', 'vault', 'aws-kms'. */
  readonly type: string
  /** For people: 'file /etc/regain/main.key'. Never a secret. */
  readonly description: string

  /** Wraps a 32-byte key. Two calls may give different results. */
  wrap(key: Buffer, about: KeyContext): Promise<WrappedKey>

  /**
   * The key, or null if it was wrapped by another KEK (the wrap's own integrity check failed). Rejects with RegainError
   * `key-unavailable` when the KEK itself cannot be had (file unreadable, service away), with `repository-damaged` when
   * the wrapped key is no such thing as any driver writes.
   */
  unwrap(wrapped: WrappedKey, about: KeyContext): Promise<Buffer | null>

  /**
   * Name of the KEK (WrappedKey.kek) with which a key that has these parameters was wrapped, if it was by this provider;
   * null where that can't be told without them. Tells a damaged wrapped key from a wrong KEK. Rejects like unwrap.
   */
  kekName(argon2id?: WrappedKey['argon2id']): Promise<string | null>

  /** The raw 32-byte KEK for the wrapped key given, for `regain key export`; null where it never leaves its service. */
  exportKey(wrapped: WrappedKey, about: KeyContext): Promise<Buffer | null>
}

/** Of what the key is: a service binds the wrapped form to it, and sees it in its audit log. */
export interface KeyContext {
  /** Hex id of the key domain. */
  domain: string
  epoch: number
}

/** JSON, stored in clear in the repository (docs/format.md, Keys). */
export interface WrappedKey {
  type: string
  /**
   * Names the KEK without revealing it: the first 16 hex digits of HMAC-SHA-256(KEK, "regain kek id"), or, for a KEK that
   * never leaves its service, of a hash of where it is (service-kek.ts).
   */
  kek: string
  /** Base64 of RFC 3394 AES-256 key wrap, 40 bytes; or the service's own text. */
  wrapped: string
  /** Passphrase: argon2id. The salt is the ASCII text itself, so that command line tools can take it. */
  argon2id?: { salt: string; memoryKiB: number; passes: number; parallelism: number }
}
