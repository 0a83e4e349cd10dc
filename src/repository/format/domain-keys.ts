import { hkdfSync } from 'node:crypto'
import { Hmac } from '../keys/hmac.ts'

/**
 * docs/format.md, Keys. Everything a key domain needs, derived from random 32-byte keys, one for each epoch: HKDF-SHA-256
 * with the domain's id (and the epoch) as salt and a label for each purpose, so that no key serves two.
 *
 * What names content (chunk ids, boundaries, pages) comes from `identity`, the first epoch's, and outlives a replaced
 * domain key: otherwise every id, every listing and every point would change with it. What seals is the epoch's own.
 */
export interface EpochKeys {
  /** 1, then 2 after the domain key was replaced, and so on. */
  readonly epoch: number
  /** Input of each sealed object's own key. */
  readonly seal: Buffer
  /** HMAC key that authenticates the clear JSON objects: repository.json and keys/. */
  readonly clear: Buffer
}

/** Of the current epoch, in which everything new is sealed, with what opens the objects of the others. */
export interface DomainKeys extends EpochKeys {
  /** 16 random bytes. */
  readonly domain: Buffer
  /** HMAC key of chunk ids. */
  readonly id: Buffer
  /** Source of the gear table, so that chunk boundaries tell a stranger nothing. */
  readonly chunker: Buffer
  /** Mixed into the hash that cuts listing pages. */
  readonly listing: Buffer
  /** By epoch: all whose domain key is at hand, the current one included. An object opens by the epoch in its header. */
  readonly ring: ReadonlyMap<number, EpochKeys>
}

/** The domain key of one epoch, unwrapped. */
export interface EpochKey {
  epoch: number
  key: Buffer
}

export const FIRST_EPOCH = 1
export const KEY_BYTES = 32
export const DOMAIN_ID_BYTES = 16
export const ID_BYTES = 32

/** `keys` in any order, at least one; the highest epoch is the current one. */
export function deriveKeyRing(domain: Buffer, identity: Buffer, keys: readonly EpochKey[]): DomainKeys {
  const ring = new Map(
    keys.map(({ epoch, key }) => {
      const seal = derive(key, epochSalt(domain, epoch), 'seal')
      return [epoch, { epoch, seal, clear: derive(key, epochSalt(domain, epoch), 'clear') }]
    }),
  )
  const current = ring.get(Math.max(...ring.keys())) as EpochKeys
  return {
    ...current,
    domain,
    id: derive(identity, domain, 'chunk id'),
    chunker: derive(identity, domain, 'chunker'),
    listing: derive(identity, domain, 'listing'),
    ring,
  }
}

/** Of a domain that has the one epoch. */
export function deriveDomainKeys(key: Buffer, domain: Buffer, epoch: number): DomainKeys {
  return deriveKeyRing(domain, deriveIdentity(key, domain, epoch), [{ epoch, key }])
}

/** The identity key, where `key` is the first epoch's domain key; later epochs carry it wrapped. */
export function deriveIdentity(key: Buffer, domain: Buffer, epoch: number = FIRST_EPOCH): Buffer {
  return derive(key, epochSalt(domain, epoch), 'identity')
}

/** The KEK that wraps the identity key in the key objects of a later epoch. */
export function deriveIdentityWrap({ epoch, key }: EpochKey, domain: Buffer): Buffer {
  return derive(key, epochSalt(domain, epoch), 'identity wrap')
}

/** 32 bytes. Proves both the content and that it was stored by a holder of the key. */
export function chunkId(keys: DomainKeys, bytes: Uint8Array): Buffer {
  return hmacOf(keys).digest(bytes)
}

/** The same of two chunks of one length, in less than twice the time. Their first `same` bytes are equal. */
export function chunkIdPair(keys: DomainKeys, a: Uint8Array, b: Uint8Array, same: number): [a: Buffer, b: Buffer] {
  return hmacOf(keys).digestPair(a, b, same)
}

function hmacOf(keys: DomainKeys): Hmac {
  let hmac = hmacs.get(keys)
  if (!hmac) {
    hmac = new Hmac(keys.id)
    hmacs.set(keys, hmac)
  }
  return hmac
}

const hmacs = new WeakMap<DomainKeys, Hmac>()

function derive(from: Buffer, salt: Buffer, label: string): Buffer {
  return Buffer.from(hkdfSync('sha256', from, salt, `regain v1 ${label}`, KEY_BYTES))
}

function epochSalt(domain: Buffer, epoch: number): Buffer {
  const salt = Buffer.alloc(DOMAIN_ID_BYTES + 4)
  domain.copy(salt)
  salt.writeUInt32LE(epoch, DOMAIN_ID_BYTES)
  return salt
}
