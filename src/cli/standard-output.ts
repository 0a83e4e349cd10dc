import type { Writable } from 'node:stream'
import { RegainError } from '../errors.ts'

/** Standard output whose reader may go away at any time, which is not an error of the program (`regain points | head`). */
export class StandardOutput {
  readonly #stream: Writable
  #isClosed = false
  #failure: RegainError | null = null

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#isClosed = true
      if (error.code === 'EPIPE') return
      this.#failure = new RegainError(
        'target-full',
        `Standard output could not be written (${error.code}): what was printed is incomplete.`,
        { hint: 'Send the output to a place with free space, and run the command again.', cause: error },
      )
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /**
   * Resolves when all that was written has been taken or has failed, with what was lost of it that a reader still waited
   * for; null: nothing. A stream speaks of a failed write only after the call that made it has returned.
   */
  async settle(): Promise<RegainError | null> {
    if (!this.#isClosed) {
      await new Promise<void>((resolve) => this.#stream.write('', () => resolve()))
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
    return this.#failure
  }

  write(text: string): void {
    if (!this.#isClosed) this.#stream.write(text)
  }

  /** Resolves when the bytes have been taken, or the reader is gone. */
  async writeBytes(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) return
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()))
  }
}
