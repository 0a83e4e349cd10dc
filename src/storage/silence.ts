import { RegainError, throwIfInterrupted } from '../errors.ts'

/** Without a byte in either direction. A server that takes an object may be silent while it makes it durable. */
const SILENCE_MS = 120_000

/** One request to a store over HTTP, as its driver sees it. */
export interface Request {
  /** Fires when the caller's signal does, or when nothing has moved for two minutes. */
  signal: AbortSignal
  /** Something has moved. */
  touch(): void
}

/**
 * Does `work` and ends it when the caller's signal fires (`interrupted`) or the server goes silent
 * (`storage-unavailable`). Whatever else it rejects with is translated by `toError`.
 */
export async function withoutSilence<T>(
  signal: AbortSignal | undefined,
  work: (request: Request) => Promise<T>,
  toError: (error: unknown) => unknown,
): Promise<T> {
  throwIfInterrupted(signal)
  const silence = new AbortController()
  const timer = setTimeout(() => silence.abort(), SILENCE_MS)
  try {
    const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal])
    return await work({ signal: either, touch: () => timer.refresh() })
  } catch (error) {
    throwIfInterrupted(signal)
    throw toError(silence.signal.aborted ? new SilentServer() : error)
  } finally {
    clearTimeout(timer)
  }
}

class SilentServer extends Error {
  readonly code = 'silent'
  constructor() {
    super(`no byte for ${SILENCE_MS / 1000} seconds`)
  }
}

/** All bytes of an answer, which must be `length`: a connection that ends early can look like the end of the object. */
export async function collect(
  chunks: AsyncIterable<Uint8Array | string>,
  length: number,
  touch: () => void,
): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(length)
  let done = 0
  for await (const chunk of chunks) {
    touch()
    if (typeof chunk === 'string' || done + chunk.length > length) break
    whole.set(chunk, done)
    done += chunk.length
  }
  if (done === length) return whole
  throw new RegainError('storage-unavailable', `The answer had not the ${length} bytes that it announced.`)
}
