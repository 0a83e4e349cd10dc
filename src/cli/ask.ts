import { createInterface, type Interface } from 'node:readline/promises'
import { RegainError } from '../errors.ts'
import type { Host } from './host.ts'

/** Questions to a person at a terminal, on standard error: standard output is for data. */
export class Questions {
  readonly #readline: Interface
  readonly #signal: AbortSignal
  /** Rejects when the person ends the input (Ctrl-D): without this a question would wait for ever. */
  readonly #ended: Promise<never>

  constructor(host: Host) {
    this.#readline = createInterface({ input: host.stdin, output: host.stderr, terminal: true })
    // Without this, Ctrl-C at a question would end only the question.
    this.#readline.on('SIGINT', () => process.kill(host.processId, 'SIGINT'))
    this.#signal = host.signal
    this.#ended = new Promise((_, reject) => {
      this.#readline.once('close', () =>
        reject(new RegainError('interrupted', 'The input ended. Nothing was written.')),
      )
    })
    // It matters only to the question that waits for it.
    this.#ended.catch(() => {})
  }

  /** The answer, or `preset` if it is empty. */
  async text(question: string, preset: string): Promise<string> {
    return (await this.#ask(`${question}${preset === '' ? '' : ` [${preset}]`}: `)) || preset
  }

  async isYes(question: string): Promise<boolean> {
    return !/^n/i.test(await this.#ask(`${question} [Y/n]: `))
  }

  close(): void {
    this.#readline.close()
  }

  async #ask(prompt: string): Promise<string> {
    const answer = await Promise.race([this.#readline.question(prompt, { signal: this.#signal }), this.#ended])
    return answer.trim()
  }
}
