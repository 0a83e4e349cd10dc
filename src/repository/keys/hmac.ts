import koffi from 'koffi'

/**
 * HMAC-SHA-256 (RFC 2104) through the SHA-256 functions that the node binary itself exports (docs/decisions/0027).
 * node:crypto makes an object for every call, fetches the algorithm and lets the collector clear both away, which costs
 * more than to hash a small file. Synchronous, one thread.
 *
 * Two messages at once take little longer than one: each round waits for the one before it, and the processor's SHA
 * instructions have room for another message's meanwhile (docs/decisions/0037).
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
const STATE_WORDS = 8
/** The low word of the length in bits. */
const LENGTH_WORD = 8
const LANES = 8

const Blocks = koffi.struct({ from: 'const void *', blocks: 'int' })

/**
 * OpenSSL's crypto/sha/asm/sha256-mb-x86_64.pl: takes whole blocks of up to four messages, here of two. States stand word
 * by word, eight messages to a word. Null where the binary has no such function, as on arm64.
 */
const updateSeveral = ((): UpdateSeveral | null => {
  try {
    return lib.func('sha256_multi_block', 'void', ['void *', koffi.pointer(Blocks), 'int']) as UpdateSeveral
  } catch {
    // How a name is answered that is not there.
    return null
  }
})()

type UpdateSeveral = (states: Address, messages: { from: Address | null; blocks: number }[], fours: number) => void

/** States of two messages, worked on together. */
class PairOfStates {
  readonly a = Buffer.alloc(STATE_BYTES)
  readonly b = Buffer.alloc(STATE_BYTES)
  private readonly words = [this.a, this.b].map(
    (state) => new Uint32Array(state.buffer, state.byteOffset, LENGTH_WORD + 1),
  )
  private readonly lanes = new Uint32Array(STATE_WORDS * LANES)
  private readonly laneBytes = new Uint8Array(this.lanes.buffer)

  /** Moves both on by so many whole blocks. Only if `updateSeveral` is there. */
  update(a: Uint8Array, b: Uint8Array, blocks: number): void {
    const { words, lanes } = this
    for (const [lane, state] of words.entries())
      for (let word = 0; word < STATE_WORDS; word++) lanes[word * LANES + lane] = state[word] as number
    const nothing = { from: null, blocks: 0 }
    updateSeveral?.(this.laneBytes, [{ from: a, blocks }, { from: b, blocks }, nothing, nothing], 1)
    for (const [lane, state] of words.entries()) {
      for (let word = 0; word < STATE_WORDS; word++) state[word] = lanes[word * LANES + lane] as number
      state[LENGTH_WORD] = (state[LENGTH_WORD] as number) + blocks * BLOCK_BYTES * 8
    }
  }
}

/** Trust, once a thread, comes from comparison: it is no public function, and an id that is wrong would cost what it names. */
const pairsAreRight = ((): boolean => {
  if (updateSeveral === null) return false
  const messages = [1, 2].map((salt) => Buffer.from(Array.from({ length: 3 * BLOCK_BYTES }, (_, i) => i * salt)))
  const pair = new PairOfStates()
  for (const state of [pair.a, pair.b]) check(init(state))
  pair.update(messages[0] as Buffer, messages[1] as Buffer, 3)
  return [pair.a, pair.b].every((state, i) => {
    const alone = Buffer.alloc(STATE_BYTES)
    check(init(alone))
    check(update(alone, messages[i] as Buffer, 3 * BLOCK_BYTES))
    return alone.equals(state)
  })
})()

/** Under one key: what each message begins and ends with is hashed once. */
export class Hmac {
  private readonly inner: Buffer
  private readonly outer: Buffer
  private readonly state = Buffer.alloc(STATE_BYTES)
  private readonly pair = new PairOfStates()
  private readonly hash = Buffer.alloc(HMAC_BYTES)

  /** `key`: at most a block, 64 bytes. */
  constructor(key: Uint8Array) {
    if (key.length > BLOCK_BYTES) throw new Error('the key is too long')
    this.inner = stateAfter(key, 0x36)
    this.outer = stateAfter(key, 0x5c)
  }

  /** 32 bytes, the caller's own. */
  digest(message: Uint8Array): Buffer {
    const { state } = this
    state.set(this.inner)
    check(update(state, message, message.length))
    return this.finish(state)
  }

  /** Of two messages of one length, below 512 MiB, whose first `same` bytes are equal. */
  digestPair(a: Uint8Array, b: Uint8Array, same: number): [a: Buffer, b: Buffer] {
    if (a.length !== b.length || same > a.length) throw new Error('no pair')
    const { pair } = this
    const shared = same & -BLOCK_BYTES
    const blocks = pairsAreRight ? Math.floor((a.length - shared) / BLOCK_BYTES) : 0
    const end = shared + blocks * BLOCK_BYTES
    pair.a.set(this.inner)
    check(update(pair.a, a, shared))
    pair.b.set(pair.a)
    if (blocks > 0) pair.update(a.subarray(shared), b.subarray(shared), blocks)
    check(update(pair.a, a.subarray(end), a.length - end))
    check(update(pair.b, b.subarray(end), b.length - end))
    return [this.finish(pair.a), this.finish(pair.b)]
  }

  private finish(state: Buffer): Buffer {
    const { hash } = this
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
