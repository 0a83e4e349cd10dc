import koffi from 'koffi'

/**
 * HMAC-SHA-256 (RFC 2104) through the SHA-256 functions that the node binary itself exports (docs/decisions/0027).
 * node:crypto makes an object for every call, fetches the algorithm and lets the collector clear both away, which costs
 * more than to hash a small file. Synchronous, one thread.
 */
type Address = Uint8Array

const lib = koffi.load(null)
const init = lib.func('SHA256_Init', 'int', ['void *']) as (state: Address) => number
const update = lib.func('SHA256_Update', 'int', ['void *', 'void *', 'size_t']) as (
  state: Address,
  from: Address,
  bytes: number,
) => number
const final = lib.func('SHA256_Final', 'int', ['void *', 'void *']) as (to: Address, state: Address) => number

export const HMAC_BYTES = 32
const BLOCK_BYTES = 64
/** SHA256_CTX (openssl/sha.h): 8 words of state, 2 of length, a block, 2 words. Plain memory, so a copy is as good. */
const STATE_BYTES = 112

/** Under one key: what each message begins and ends with is hashed once. */
export class Hmac {
  private readonly inner: Buffer
  private readonly outer: Buffer
  private readonly state = Buffer.alloc(STATE_BYTES)
  private readonly hash = Buffer.alloc(HMAC_BYTES)

  /** `key`: at most a block, 64 bytes. */
  constructor(key: Uint8Array) {
    if (key.length > BLOCK_BYTES) throw new Error('the key is too long')
    this.inner = stateAfter(key, 0x36)
    this.outer = stateAfter(key, 0x5c)
  }

  /** 32 bytes, the caller's own. */
  digest(message: Uint8Array): Buffer {
    const { state, hash } = this
    state.set(this.inner)
    check(update(state, message, message.length))
    check(final(hash, state))
    state.set(this.outer)
    check(update(state, hash, HMAC_BYTES))
    const out = Buffer.allocUnsafe(HMAC_BYTES)
    check(final(out, state))
    return out
  }
}

function stateAfter(key: Uint8Array, pad: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES, pad)
  for (const [at, byte] of key.entries()) block[at] = byte ^ pad
  const state = Buffer.alloc(STATE_BYTES)
  check(init(state))
  check(update(state, block, BLOCK_BYTES))
  return state
}

function check(result: number): void {
  if (result !== 1) throw new Error('SHA-256 failed')
}
