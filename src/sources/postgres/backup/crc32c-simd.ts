/**
 * CRC-32C of whole blocks in WebAssembly, for streams: there is no instruction for it there, but sixteen streams can
 * go side by side in 128-bit vectors. A block is 16 streams of 512 bytes. Byte k of the sixteen states is one vector, and
 * a step of a byte,
 *
 *   index = state0 ^ byte;  state0..2 = state1..3 ^ table0..2[index];  state3 = table3[index]
 *
 * takes its tables by halves of the index: CRCs are linear, so table[index] = table[low half] ^ table[high half], and
 * sixteen entries of a byte are just what one shuffle instruction looks up. In the end the streams' states are joined, each
 * moved on by the 512 bytes of the next. 1.6 times as fast as tables in JavaScript.
 */
const STREAMS = 16
const STREAM_BYTES = 512
export const BLOCK_BYTES = STREAMS * STREAM_BYTES
/** Blocks that fit into the module's memory at once. */
const MAX_BLOCKS = 8
/** Memory: tables that move a state on by STREAM_BYTES zeros, 4 × 256 words; the states' bytes; the data. */
const STATES_AT = 4096
const DATA_AT = 8192

/** WebAssembly's opcodes (its core specification 2.0, section 5.4, and relaxed SIMD), as far as they are used. */
const OP = {
  block: 0x02,
  loop: 0x03,
  end: 0x0b,
  branch: 0x0c,
  branchIf: 0x0d,
  get: 0x20,
  set: 0x21,
  tee: 0x22,
} as const
const I32 = { load: 0x28, load8: 0x2d, constant: 0x41, eqz: 0x45, add: 0x6a, sub: 0x6b, and: 0x71, xor: 0x73 } as const
const I32_SHIFT = { left: 0x74, rightUnsigned: 0x76 } as const
const V128 = {
  load: 0x00,
  store: 0x0b,
  constant: 0x0c,
  shuffle: 0x0d,
  and: 0x4e,
  xor: 0x51,
  shiftRight16: 0x8d,
} as const
const RELAXED_SWIZZLE = 0x100
const TYPE = { i32: 0x7f, v128: 0x7b, empty: 0x40 } as const

// TypeScript knows it as a part of browsers alone.
declare const WebAssembly: {
  Memory: new (size: { initial: number }) => { buffer: ArrayBuffer }
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object, imports: Record<string, Record<string, object>>) => { exports: object }
}

type Step = (crc: number, byte: number) => number

/** The state (not inverted) after `bytes`, whose length must be a multiple of BLOCK_BYTES. */
export type Fold = (state: number, bytes: Uint8Array) => number

/** `step` moves a state on by one byte; it makes the tables. */
export function makeFold(step: Step): Fold {
  const memory = new WebAssembly.Memory({ initial: Math.ceil((DATA_AT + MAX_BLOCKS * BLOCK_BYTES) / 65536) })
  new Uint32Array(memory.buffer, 0, 1024).set(movingTables(step))
  const module = new WebAssembly.Module(assemble(step))
  const { fold } = new WebAssembly.Instance(module, { m: { m: memory } }).exports as {
    fold(state: number, blocks: number): number
  }
  const room = new Uint8Array(memory.buffer, DATA_AT, MAX_BLOCKS * BLOCK_BYTES)
  return (state, bytes) => {
    for (let at = 0; at < bytes.length; at += room.length) {
      const piece = bytes.subarray(at, at + room.length)
      room.set(piece)
      state = fold(state, piece.length / BLOCK_BYTES)
    }
    return state
  }
}

/** What a state with one of its four bytes set becomes after STREAM_BYTES zeros. */
function movingTables(step: Step): Uint32Array {
  const bits = Array.from({ length: 32 }, (_, bit) => {
    let state = (1 << bit) >>> 0
    for (let i = 0; i < STREAM_BYTES; i++) state = step(state, 0) >>> 0
    return state
  })
  return Uint32Array.from({ length: 1024 }, (_, index) => {
    let state = 0
    for (let bit = 0; bit < 8; bit++) if ((index >>> bit) & 1) state ^= bits[(index >>> 8) * 8 + bit] as number
    return state >>> 0
  })
}

const LOCAL = {
  state: 0,
  blocks: 1,
  from: 2,
  end: 3,
  stream: 4,
  states: 5,
  low: 9,
  high: 13,
  a: 17,
  b: 33,
  index: 49,
  half: 50,
  mask: 51,
}
const LOCALS: [count: number, type: number][] = [
  [3, TYPE.i32],
  [47, TYPE.v128],
]

function assemble(step: Step): Uint8Array<ArrayBuffer> {
  const body = [...vector(LOCALS.map(([count, type]) => [...unsigned(count), type])), ...foldBody(step), OP.end]
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    // One type, (i32, i32) -> i32; the memory m.m; one function of the type; exported as fold.
    ...section(1, vector([[0x60, 2, TYPE.i32, TYPE.i32, 1, TYPE.i32]])),
    ...section(2, vector([[1, 0x6d, 1, 0x6d, 0x02, 0, 1]])),
    ...section(3, vector([[0]])),
    ...section(7, vector([[4, ...Buffer.from('fold'), 0, 0]])),
    ...section(10, vector([[...unsigned(body.length), ...body]])),
  ])
}

function foldBody(step: Step): number[] {
  const { state, blocks, from, end, stream } = LOCAL
  return [
    ...halfTables(step),
    ...[...simd(V128.constant), ...new Array<number>(16).fill(15), OP.set, LOCAL.mask],
    ...[...constant(DATA_AT), OP.set, from],
    ...[OP.block, TYPE.empty, OP.loop, TYPE.empty],
    ...[...get(blocks), I32.eqz, OP.branchIf, 1],
    // The first stream goes on from the state so far, the others begin at zero.
    ...range(4).flatMap((k) => [...stateByte(k), ...simd(V128.and), OP.set, LOCAL.states + k]),
    ...[...get(from), ...constant(STREAM_BYTES), I32.add, OP.set, end],
    ...[OP.loop, TYPE.empty],
    ...transpose(from),
    ...range(STREAMS).flatMap((k) => takeByte(LOCAL.a + k)),
    ...[...get(from), ...constant(16), I32.add, OP.tee, from, ...get(end), I32.sub, OP.branchIf, 0],
    OP.end,
    ...range(4).flatMap((k) => [...constant(STATES_AT), ...get(LOCAL.states + k), ...simd(V128.store), 4, 16 * k]),
    ...[...constant(0), OP.set, state, ...constant(0), OP.set, stream],
    ...[OP.loop, TYPE.empty],
    ...moveOn(state),
    ...range(4).flatMap((k) => [
      ...get(stream),
      I32.load8,
      0,
      ...unsigned(STATES_AT + 16 * k),
      ...shifted(8 * k),
      I32.xor,
    ]),
    ...[OP.set, state],
    ...[...get(stream), ...constant(1), I32.add, OP.tee, stream, ...constant(STREAMS), I32.sub, OP.branchIf, 0],
    OP.end,
    ...[...get(from), ...constant(BLOCK_BYTES - STREAM_BYTES), I32.add, OP.set, from],
    ...[...get(blocks), ...constant(1), I32.sub, OP.set, blocks, OP.branch, 0],
    ...[OP.end, OP.end],
    ...get(state),
  ]
}

/** Sets the locals `low` and `high`: for each byte k of a state, that byte of the table's entries of sixteen halves. */
function halfTables(step: Step): number[] {
  return range(4).flatMap((k) => {
    const bytes = (shift: number) => range(16).map((half) => (step(half << shift, 0) >>> (8 * k)) & 255)
    return [
      ...[...simd(V128.constant), ...bytes(0), OP.set, LOCAL.low + k],
      ...[...simd(V128.constant), ...bytes(4), OP.set, LOCAL.high + k],
    ]
  })
}

/** Two vectors whose `and` is byte k of the state in the first lane and zeros. */
function stateByte(k: number): number[] {
  const splat8 = 0x0f
  const first = [255, ...new Array<number>(15).fill(0)]
  return [
    ...[...get(LOCAL.state), ...constant(8 * k), I32_SHIFT.rightUnsigned, ...simd(splat8)],
    ...[...simd(V128.constant), ...first],
  ]
}

/** Loads sixteen bytes of each stream; leaves in the locals `a` their first bytes, their second bytes, and so on. */
function transpose(from: number): number[] {
  const load = (k: number) => [...get(from), ...simd(V128.load), 4, ...unsigned(k * STREAM_BYTES), OP.set, LOCAL.a + k]
  const lower = range(16).map((lane) => (lane >> 1) + (lane & 1) * 16)
  const upper = lower.map((lane) => lane + 8)
  // To interleave the first half of all 256 bytes with the second moves each bit of a byte's place up by one: after
  // four times, stream and place in the stream have changed places.
  const interleave = (source: number, target: number) =>
    range(8).flatMap((k) =>
      [lower, upper].flatMap((lanes, which) => [
        ...[...get(source + k), ...get(source + k + 8), ...simd(V128.shuffle), ...lanes],
        ...[OP.set, target + 2 * k + which],
      ]),
    )
  const { a, b } = LOCAL
  return [
    ...range(16).flatMap(load),
    ...interleave(a, b),
    ...interleave(b, a),
    ...interleave(a, b),
    ...interleave(b, a),
  ]
}

function takeByte(bytes: number): number[] {
  const { states, low, high, index, half, mask } = LOCAL
  const looked = (k: number) => [
    ...[...get(low + k), ...get(index), ...simd(RELAXED_SWIZZLE)],
    ...[...get(high + k), ...get(half), ...simd(RELAXED_SWIZZLE), ...simd(V128.xor)],
  ]
  return [
    ...[...get(states), ...get(bytes), ...simd(V128.xor), OP.tee, index],
    ...[...constant(4), ...simd(V128.shiftRight16), ...get(mask), ...simd(V128.and), OP.set, half],
    ...[...get(index), ...get(mask), ...simd(V128.and), OP.set, index],
    ...range(3).flatMap((k) => [...looked(k), ...get(states + k + 1), ...simd(V128.xor), OP.set, states + k]),
    ...[...looked(3), OP.set, states + 3],
  ]
}

/** Leaves on the stack what the state in this local is after STREAM_BYTES zeros. */
function moveOn(state: number): number[] {
  return range(4).flatMap((k) => [
    ...[...get(state), ...constant(8 * k), I32_SHIFT.rightUnsigned, ...constant(255), I32.and],
    ...[...constant(2), I32_SHIFT.left, I32.load, 2, ...unsigned(1024 * k)],
    ...(k === 0 ? [] : [I32.xor]),
  ])
}

function shifted(bits: number): number[] {
  return [...constant(bits), I32_SHIFT.left]
}

function get(local: number): number[] {
  return [OP.get, local]
}

function constant(value: number): number[] {
  return [I32.constant, ...signed(value)]
}

function simd(opcode: number): number[] {
  return [0xfd, ...unsigned(opcode)]
}

function section(id: number, content: number[]): number[] {
  return [id, ...unsigned(content.length), ...content]
}

function vector(items: number[][]): number[] {
  return [...unsigned(items.length), ...items.flat()]
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)]
}

/** LEB128 of a number that is not negative: its last byte's sixth bit is the sign. */
function signed(value: number): number[] {
  return value < 64 ? [value] : [(value & 127) | 128, ...signed(value >>> 7)]
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}
