import { isRegainError } from '../../../errors.ts'
import type { LogListing, LogReader } from '../../contract.ts'

/** Whether an error says that a piece of the log can't be used as it is. */
export function isDamaged(error: unknown): boolean {
  return isRegainError(error, 'repository-damaged') || isRegainError(error, 'repository-version')
}

/**
 * A log without the segments that showed to be damaged when they were read: what lies before them can be reached all the same, as it
 * could if they were gone. Whoever meets one gets its error, and a log without it when he begins again.
 */
export class SoundLog implements LogReader {
  /** Names of what showed to be damaged until now. */
  readonly damaged = new Set<string>()
  readonly #log: LogReader

  constructor(log: LogReader) {
    this.#log = log
  }

  async list(): Promise<LogListing> {
    const { segments, ...others } = await this.#log.list()
    return { ...others, segments: segments.filter(({ name }) => !this.damaged.has(name)) }
  }

  async read(branch: string, name: string): ReturnType<LogReader['read']> {
    try {
      return await this.#log.read(branch, name)
    } catch (error) {
      if (isDamaged(error)) this.damaged.add(name)
      throw error
    }
  }

  readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]> {
    return this.#log.readUntil(pieces)
  }

  readHistory(name: string): Promise<Buffer | null> {
    return this.#log.readHistory(name)
  }
}
