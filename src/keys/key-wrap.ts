import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto'

/**
 * AES key wrap, RFC 3394, with a 256-bit key-encryption key (KEK) and its default initial value: openssl's
 * `id-aes256-wrap`. Deterministic, 8 bytes longer than what it wraps, and it tells whether it was wrapped by this KEK.
 */
const ALGORITHM = 'id-aes256-wrap'

/** RFC 3394, 2.2.3.1. */
const INITIAL_VALUE = Buffer.alloc(8, 0xa6)

export const KEY_BYTES = 32
const WRAPPED_BYTES = KEY_BYTES + INITIAL_VALUE.length

/** The 40 bytes that wrap a 32-byte key. A key or KEK of another length is a bug, and throws. */
export function wrapKey(kek: Buffer, key: Buffer): Buffer {
  if (key.length !== KEY_BYTES) throw new Error(`A key of ${key.length} bytes cannot be wrapped`)
  const cipher = createCipheriv(ALGORITHM, kek, INITIAL_VALUE)
  return Buffer.concat([cipher.update(key), cipher.final()])
}

/** The key, or null if these are not 40 bytes wrapped by this KEK. */
export function unwrapKey(kek: Buffer, wrapped: Buffer): Buffer | null {
  if (wrapped.length !== WRAPPED_BYTES) return null
  // Outside of the try: a KEK of a wrong length, or an OpenSSL without the algorithm, is no matter of integrity.
  const decipher = createDecipheriv(ALGORITHM, kek, INITIAL_VALUE)
  try {
    return Buffer.concat([decipher.update(wrapped), decipher.final()])
  } catch {
    // With lengths right, the integrity check is all that can fail here; OpenSSL gives it no code of its own.
    return null
  }
}

/** Names a KEK without revealing it: the first 16 hex digits of HMAC-SHA-256(KEK, "regain kek id"). */
export function kekId(kek: Buffer): string {
  return createHmac('sha256', kek).update('regain kek id').digest('hex').slice(0, 16)
}
