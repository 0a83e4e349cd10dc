import { createHmac, hkdfSync } from 'node:crypto'

/**
 * docs/format.md, Keys. Everything a key domain needs, derived from its one random 32-byte key: HKDF-SHA-256 with the
 * domain's id and epoch as salt and a label for each purpose, so that no key serves two.
 *
 * What names content (chunk ids, boundaries, pages) comes from `identity`, the first epoch's, and must outlive a replaced
 * domain key: otherwise every id, every listing and every point would change with it. What seals is the epoch's own. A
 * later epoch's key object will carry `identity` wrapped; this version knows epoch 1 only.
 */
export const KNOWN_EPOCH = 1

/** See above. */
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
  const epochSalt = Buffer.alloc(DOMAIN_ID_BYTES + 4)
  domain.copy(epochSalt)
  epochSalt.writeUInt32LE(epoch, DOMAIN_ID_BYTES)
  const derive = (from: Buffer, salt: Buffer, label: string) =>
    Buffer.from(hkdfSync('sha256', from, salt, `regain v1 ${label}`, KEY_BYTES))
  const identity = derive(key, epochSalt, 'identity')
  return {
    domain,
    epoch,
    id: derive(identity, domain, 'chunk id'),
    chunker: derive(identity, domain, 'chunker'),
    listing: derive(identity, domain, 'listing'),
    seal: derive(key, epochSalt, 'seal'),
    clear: derive(key, epochSalt, 'clear'),
  }
}

/** 32 bytes. Proves both the content and that it was stored by a holder of the key. */
export function chunkId(keys: DomainKeys, bytes: Uint8Array): Buffer {
  return createHmac('sha256', keys.id).update(bytes).digest()
}
