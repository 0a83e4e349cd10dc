import { createCipheriv, createDecipheriv, createHash, hkdfSync, timingSafeEqual } from 'node:crypto'
import { RegainError } from '../../errors.ts'
import { DOMAIN_ID_BYTES, type DomainKeys, type EpochKeys } from './domain-keys.ts'

/**
 * docs/format.md, Sealed objects. Every object but the clear ones is a header and a stream of AES-256-GCM frames:
 *
 *   header  "REGAIN", kind (1 letter), version 1 | domain (16) | epoch u32 | zero u32 | salt (32) | commitment (32)
 *   frame i AES-256-GCM(256 KiB of plaintext, the last one shorter or equal), tag (16)
 *
 * key || commitment = HKDF-SHA-256(seal key, salt, "regain v1 object " + kind): a fresh salt gives each object its own
 * key, so counter nonces never repeat under one; the commitment binds the ciphertext to that key.
 * nonce = frame number (12 bytes, big endian). Associated data = SHA-256(header || context), frame number (8 bytes, big
 * endian), 1 if last else 0: frames can't be reordered, cut, or moved to another object. The context is the object's
 * name where the name is not derived from its bytes, so that objects can't be exchanged for each other either.
 */
export const FRAME_BYTES = 256 * 1024
export const TAG_BYTES = 16
export const SEALED_FRAME_BYTES = FRAME_BYTES + TAG_BYTES
export const HEADER_BYTES = 96
const EPOCH_OFFSET = 8 + DOMAIN_ID_BYTES
const SALT_OFFSET = EPOCH_OFFSET + 8
const COMMITMENT_OFFSET = SALT_OFFSET + 32

/** P pack, I index, S session, E end, N pin, G generation, R receipt, X expired point, D hold, L log segment or tail, H log history, T log trim. */
export type SealedKind = 'P' | 'I' | 'S' | 'E' | 'N' | 'G' | 'R' | 'X' | 'D' | 'L' | 'H' | 'T'

interface ObjectKey {
  key: Buffer
  commitment: Buffer
}

function objectKey(keys: EpochKeys, kind: string, salt: Uint8Array): ObjectKey {
  const okm = Buffer.from(hkdfSync('sha256', keys.seal, salt, `regain v1 object ${kind}`, 64))
  return { key: okm.subarray(0, 32), commitment: okm.subarray(32) }
}

function frameNonce(frame: number): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32BE(frame, 8)
  return nonce
}

function frameData(headerHash: Buffer, frame: number, last: boolean): Buffer {
  const data = Buffer.alloc(41)
  headerHash.copy(data)
  data.writeUInt32BE(frame, 36)
  data[40] = last ? 1 : 0
  return data
}

/** The key epoch that a header names, not authenticated; null if these are not the first bytes of an object. */
export function headerEpoch(bytes: Buffer): number | null {
  return bytes.length < HEADER_BYTES || bytes.toString('latin1', 0, 6) !== 'REGAIN'
    ? null
    : bytes.readUInt32LE(EPOCH_OFFSET)
}

/** Bytes of the whole object for a plaintext of `plainBytes`. Even an empty one has a frame. */
export function sealedSize(plainBytes: number): number {
  return HEADER_BYTES + plainBytes + Math.max(1, Math.ceil(plainBytes / FRAME_BYTES)) * TAG_BYTES
}

/** Inverse of sealedSize; throws `repository-damaged` for a size that no object can have. */
export function plainSize(sealedBytes: number, name: string): number {
  const body = sealedBytes - HEADER_BYTES
  const frames = Math.ceil(body / SEALED_FRAME_BYTES)
  const plain = body - frames * TAG_BYTES
  if (body < TAG_BYTES || plain < (frames - 1) * FRAME_BYTES || sealedSize(plain) !== sealedBytes)
    throw new RegainError(
      'repository-damaged',
      `${name} has an impossible length (${sealedBytes} bytes): it was cut or grew.`,
    )
  return plain
}

/** Seals plaintext frame by frame into buffers the caller owns. `salt` is 32 fresh random bytes, never used before. */
export class Sealer {
  readonly header: Buffer
  private readonly key: Buffer
  private readonly headerHash: Buffer
  private frame = 0
  private ended = false

  constructor(keys: DomainKeys, kind: SealedKind, context: string, salt: Buffer) {
    const { key, commitment } = objectKey(keys, kind, salt)
    this.key = key
    this.header = Buffer.alloc(HEADER_BYTES)
    this.header.write('REGAIN', 0, 'latin1')
    this.header.write(kind, 6, 'latin1')
    this.header[7] = 1
    keys.domain.copy(this.header, 8)
    this.header.writeUInt32LE(keys.epoch, EPOCH_OFFSET)
    salt.copy(this.header, SALT_OFFSET)
    commitment.copy(this.header, COMMITMENT_OFFSET)
    this.headerHash = createHash('sha256').update(this.header).update(context).digest()
  }

  /** Writes ciphertext and tag of one frame into `out` at `offset`; returns the bytes written. All frames but the last are FRAME_BYTES. */
  seal(plain: Uint8Array, last: boolean, out: Uint8Array, offset: number): number {
    if (this.ended || plain.length > FRAME_BYTES || (!last && plain.length !== FRAME_BYTES))
      throw new Error('frame out of order')
    const cipher = createCipheriv('aes-256-gcm', this.key, frameNonce(this.frame))
    cipher.setAAD(frameData(this.headerHash, this.frame, last))
    const body = cipher.update(plain)
    cipher.final()
    out.set(body, offset)
    out.set(cipher.getAuthTag(), offset + body.length)
    this.frame++
    this.ended = last
    return body.length + TAG_BYTES
  }
}

/** Opens frames of one object in any order. Nothing is returned before its tag was checked. */
export class Opener {
  private readonly key: Buffer
  private readonly headerHash: Buffer
  private readonly frames: number
  private readonly name: string

  constructor(
    keys: DomainKeys,
    kind: SealedKind,
    context: string,
    header: Uint8Array,
    sealedBytes: number,
    name: string,
  ) {
    this.name = name
    this.frames = Math.max(1, Math.ceil(plainSize(sealedBytes, name) / FRAME_BYTES))
    const bytes = Buffer.from(header.buffer, header.byteOffset, header.length)
    if (
      bytes.length < HEADER_BYTES ||
      bytes.toString('latin1', 0, 6) !== 'REGAIN' ||
      bytes.toString('latin1', 6, 7) !== kind
    )
      throw new RegainError('repository-damaged', `${name} is not an object of this kind: its header was changed.`)
    if (bytes[7] !== 1)
      throw new RegainError(
        'repository-version',
        `${name} has version ${bytes[7]}, which this version of Regain does not know.`,
      )
    const epochKeys = keys.ring.get(bytes.readUInt32LE(EPOCH_OFFSET))
    if (!keys.domain.equals(bytes.subarray(8, EPOCH_OFFSET)) || epochKeys === undefined)
      throw new RegainError(
        'repository-damaged',
        `${name} belongs to another key domain, or to a key epoch whose key is not at hand.`,
      )
    if (bytes.readUInt32LE(EPOCH_OFFSET + 4) !== 0)
      throw new RegainError(
        'repository-version',
        `${name} uses a part of the header that this version of Regain does not know, or was changed.`,
      )
    const { key, commitment } = objectKey(epochKeys, kind, bytes.subarray(SALT_OFFSET, SALT_OFFSET + 32))
    if (!timingSafeEqual(commitment, bytes.subarray(COMMITMENT_OFFSET, HEADER_BYTES)))
      throw new RegainError('repository-damaged', `${name} was not sealed with this key, or its header was changed.`)
    this.key = key
    this.headerHash = createHash('sha256').update(bytes.subarray(0, HEADER_BYTES)).update(context).digest()
  }

  /** `sealed` is the frame with its tag. */
  open(frame: number, sealed: Uint8Array): Buffer {
    const last = frame === this.frames - 1
    const decipher = createDecipheriv('aes-256-gcm', this.key, frameNonce(frame))
    decipher.setAAD(frameData(this.headerHash, frame, last))
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES))
    const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES))
    try {
      decipher.final()
    } catch {
      throw new RegainError('repository-damaged', `${this.name} was changed: frame ${frame} fails its authentication.`)
    }
    return plain
  }
}

/** Seals a whole small object. */
export function sealObject(
  keys: DomainKeys,
  kind: SealedKind,
  context: string,
  plain: Uint8Array,
  salt: Buffer,
): Buffer {
  const sealer = new Sealer(keys, kind, context, salt)
  const out = Buffer.allocUnsafe(sealedSize(plain.length))
  let written = sealer.header.copy(out)
  for (let start = 0; ; start += FRAME_BYTES) {
    const end = Math.min(start + FRAME_BYTES, plain.length)
    written += sealer.seal(plain.subarray(start, end), end === plain.length, out, written)
    if (end === plain.length) return out
  }
}

/** Opens a whole object; throws `repository-damaged` for any change of any byte, its length or (by context) its name. */
export function openObject(keys: DomainKeys, kind: SealedKind, context: string, sealed: Buffer, name: string): Buffer {
  const out = Buffer.allocUnsafe(plainSize(sealed.length, name))
  const opener = new Opener(keys, kind, context, sealed.subarray(0, HEADER_BYTES), sealed.length, name)
  let written = 0
  for (let frame = 0, at = HEADER_BYTES; at < sealed.length; frame++, at += SEALED_FRAME_BYTES)
    written += opener
      .open(frame, sealed.subarray(at, Math.min(at + SEALED_FRAME_BYTES, sealed.length)))
      .copy(out, written)
  return out
}
