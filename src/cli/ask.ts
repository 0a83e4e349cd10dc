import { createInterface, type Interface } from 'node:readline/promises'
import type { Host } from './host.ts'

/** Questions to a person at a terminal, on standard error: standard output is for data. */
export class Questions {
  readonly #readline: Interface
  readonly #signal: AbortSignal

  constructor(host: Host) {
    this.#readline = createInterface({ input: host.stdin, output: host.stderr, terminal: true })
    // Without this, Ctrl-C at a question would end only the question.
    this.#readline.on('SIGINT', () => process.kill(host.processId, 'SIGINT'))
    this.#signal = host.signal
  }

  /** The answer, or `preset` if it is empty. */
  async text(question: string, preset: string): Promise<string> {
    const answer = await this.#readline.question(`${question}${preset === '' ? '' : ` [${preset}]`}: `, {
      signal: this.#signal,
    })
    return answer.trim() || preset
  }

  async isYes(question: string): Promise<boolean> {
    const answer = await this.#readline.question(`${question} [Y/n]: `, { signal: this.#signal })
    return !/^n/i.test(answer.trim())
  }

  close(): void {
    this.#readline.close()
  }
}
