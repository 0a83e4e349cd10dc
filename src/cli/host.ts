import type { Readable, Writable } from 'node:stream'
import type { Ambient } from '../model.ts'
import type { Drivers } from '../operations/context.ts'

/** The process as the command line sees it: made in src/main.ts, so that nothing below reads globals. */
export interface Host {
  readonly version: string
  /** `log` is given by the command line once it knows how much is wanted. */
  readonly ambient: Omit<Ambient, 'log'>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly drivers: Drivers
  /** Absolute path of the launcher. */
  readonly launcher: string
  readonly stdin: Readable & { isTTY?: boolean }
  readonly stdout: Writable & { isTTY?: boolean; columns?: number }
  readonly stderr: Writable & { isTTY?: boolean; columns?: number }
  /** Fires at the first SIGINT, SIGTERM or unheard SIGHUP. */
  readonly signal: AbortSignal
  /** Calls back at every SIGHUP, which else interrupts, until the function returned is called. */
  onHangUp(listener: () => void): () => void
  readonly processId: number
  /** Numeric user id; null where there is none. */
  readonly userId: number | null
}
