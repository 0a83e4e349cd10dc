import { createHmac, hkdfSync } from 'node:crypto'

/**
 * docs/format.md, Keys. Everything a key domain needs, derived from its one random 32-byte key: HKDF-SHA-256 with the
 * domain's id and epoch as salt and a label for each purpose, so that no key serves two.
 */
export interface DomainKeys {
  /** 16 random bytes. */
  readonly domain: Buffer
  /** 1, then 2 after the domain key was replaced, and so on. */
  readonly epoch: number
  /** HMAC key of chunk ids. */
  readonly id: Buffer
  /** Source of the gear table, so that chunk boundaries tell a stranger nothing. */
  readonly chunker: Buffer
  /** Input of each sealed object's own key. */
  readonly seal: Buffer
  /** Mixed into the hash that cuts listing pages. */
  readonly listing: Buffer
  /** HMAC key that authenticates the clear JSON objects: repository.json and keys/. */
  readonly clear: Buffer
}

export const KEY_BYTES = 32
export const DOMAIN_ID_BYTES = 16
export const ID_BYTES = 32

export function deriveDomainKeys(key: Buffer, domain: Buffer, epoch: number): DomainKeys {
  const salt = Buffer.alloc(DOMAIN_ID_BYTES + 4)
  domain.copy(salt)
  salt.writeUInt32LE(epoch, DOMAIN_ID_BYTES)
  const derive = (label: string) => Buffer.from(hkdfSync('sha256', key, salt, `regain v1 ${label}`, KEY_BYTES))
  return {
    domain,
    epoch,
    id: derive('chunk id'),
    chunker: derive('chunker'),
    seal: derive('seal'),
    listing: derive('listing'),
    clear: derive('clear'),
  }
}

/** 32 bytes. Proves both the content and that it was stored by a holder of the key. */
export function chunkId(keys: DomainKeys, bytes: Uint8Array): Buffer {
  return createHmac('sha256', keys.id).update(bytes).digest()
}
