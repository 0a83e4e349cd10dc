import type { RegainError } from '../errors.ts'
import type { Ambient, Progress } from '../model.ts'

/** How a command speaks. People read standard error; standard output carries data alone, or JSON lines. */
export interface Output {
  readonly isJson: boolean
  /** True once nobody reads standard output any more: a command that only prints may stop. */
  readonly isClosed: boolean
  /** Whether lines for people may carry colour. */
  readonly isColoured: boolean
  progress(progress: Progress): void
  warn(message: string): void
  /** A line for people about what happens; not shown with --quiet or --json. */
  say(line: string): void
  /** Data for people and pipes, one line, to standard output; not shown with --json. */
  line(text: string): void
  /** Raw bytes to standard output, at the reader's pace; also with --json, for commands that have no other result. */
  bytes(bytes: Uint8Array): Promise<void>
  /** One thing of a long answer for programs; shown with --json alone. */
  item(type: string, value: object): void
  /** The outcome for programs; people have had theirs by say and line. Several are allowed; the last ends the stream. */
  result(value: object): void
  /** `about` names what failed when an operation had several parts. */
  error(error: RegainError, about?: object): void
  log: Ambient['log']
  /** Takes the progress line away. */
  end(): void
}

export interface OutputOptions {
  isQuiet: boolean
  isVerbose: boolean
  isColoured: boolean
}
