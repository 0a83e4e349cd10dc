import koffi from 'koffi'

/**
 * Zstandard through the functions that the node binary itself exports (docs/decisions/0012). node:zlib makes a context
 * for every call, which costs more than many a call's work. Contexts live in buffers, one for each direction and thread:
 * nothing of them outlives the thread.
 */
type Address = Uint8Array | null

const lib = koffi.load(null)
const native = {
  compressBound: lib.func('ZSTD_compressBound', 'size_t', ['size_t']) as (bytes: number) => number,
  isError: lib.func('ZSTD_isError', 'uint32_t', ['size_t']) as (result: number) => number,
  errorCode: lib.func('ZSTD_getErrorCode', 'int', ['size_t']) as (result: number) => number,
  errorName: lib.func('ZSTD_getErrorName', 'str', ['size_t']) as (result: number) => string,
  estimateCompressor: lib.func('ZSTD_estimateCCtxSize', 'size_t', ['int']) as (level: number) => number,
  initCompressor: lib.func('ZSTD_initStaticCCtx', 'void *', ['void *', 'size_t']) as (w: Address, n: number) => unknown,
  setParameter: lib.func('ZSTD_CCtx_setParameter', 'size_t', ['void *', 'int', 'int']) as (
    context: unknown,
    parameter: number,
    value: number,
  ) => number,
  compress: lib.func('ZSTD_compress2', 'size_t', ['void *', 'void *', 'size_t', 'void *', 'size_t']) as Call,
  estimateDecompressor: lib.func('ZSTD_estimateDCtxSize', 'size_t', []) as () => number,
  initDecompressor: lib.func('ZSTD_initStaticDCtx', 'void *', ['void *', 'size_t']) as (
    w: Address,
    n: number,
  ) => unknown,
  decompress: lib.func('ZSTD_decompressDCtx', 'size_t', ['void *', 'void *', 'size_t', 'void *', 'size_t']) as Call,
}

/** context, destination, its size, source, its size: bytes written, or what isError says is none. */
type Call = (context: unknown, to: Address, capacity: number, from: Address, bytes: number) => number

/** ZSTD_c_compressionLevel. */
const LEVEL = 100
/** ZSTD_error_dstSize_tooSmall (zstd_errors.h). */
const NO_ROOM = 70
/** ZSTD_BLOCKSIZE_MAX: RFC 8878, 3.1.1.2.4. */
export const ZSTD_BLOCK_BYTES = 128 * 1024
/** The workspace is for this level and those below it. */
const MAX_LEVEL = 3

interface Context {
  /** Holds the context: must live as long as it. */
  workspace: Buffer
  context: unknown
}

let compressor: (Context & { level: number }) | null = null
let decompressor: Context | null = null

/** Room that `compress` needs for so many bytes. */
export function compressBound(bytes: number): number {
  return Number(native.compressBound(bytes))
}

/** Writes one frame to the beginning of `to`, which must have room (compressBound); its size in bytes. Levels up to 3. */
export function compress(raw: Uint8Array, level: number, to: Uint8Array): number {
  compressor ??= makeCompressor()
  if (compressor.level !== level) {
    check(native.setParameter(compressor.context, LEVEL, level))
    compressor.level = level
  }
  return check(native.compress(compressor.context, to, to.length, raw, raw.length))
}

/** Fills `to` from the beginning; bytes written. Throws an Error when that is no frame, or one of more than fits. */
export function decompress(frame: Uint8Array, to: Uint8Array): number {
  decompressor ??= makeDecompressor()
  return check(native.decompress(decompressor.context, to, to.length, frame, frame.length))
}

/**
 * The same of a frame of which only the beginning is wanted: fills what there is of `to`, and stops. Blocks of the frame
 * are written one by one, so all before the last ZSTD_BLOCK_BYTES of `to` are there.
 */
export function decompressBeginning(frame: Uint8Array, to: Uint8Array): void {
  decompressor ??= makeDecompressor()
  const result = native.decompress(decompressor.context, to, to.length, frame, frame.length)
  if (native.isError(result) !== 0 && native.errorCode(result) !== NO_ROOM) check(result)
}

function makeCompressor(): Context & { level: number } {
  const workspace = Buffer.allocUnsafeSlow(Number(native.estimateCompressor(MAX_LEVEL)))
  const context = native.initCompressor(workspace, workspace.length)
  if (context === null) throw new Error('no zstd compressor')
  return { workspace, context, level: Number.NaN }
}

function makeDecompressor(): Context {
  const workspace = Buffer.allocUnsafeSlow(Number(native.estimateDecompressor()))
  const context = native.initDecompressor(workspace, workspace.length)
  if (context === null) throw new Error('no zstd decompressor')
  return { workspace, context }
}

function check(result: number): number {
  if (native.isError(result) !== 0) throw new Error(`zstd: ${native.errorName(result)}`)
  return Number(result)
}
