import type { Writable } from 'node:stream'

/** Standard output whose reader may go away at any time, which is not an error of the program (`regain points | head`). */
export class StandardOutput {
  readonly #stream: Writable
  #isClosed = false

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      this.#isClosed = true
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
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
