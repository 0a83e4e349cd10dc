import { spawn } from 'node:child_process'

/** What a command says of itself in an error: enough to understand, never a flood. */
const OUTPUT_BYTES_MAX = 4096
/** Between asking a command to end and ending it. */
const GRACE_MS = 5000
/** A background process may hold the command's output open after the command itself has ended. */
const DRAIN_MS = 1000

export interface CommandOptions {
  limitMs: number
  /** Ends the command early. */
  signal?: AbortSignal
}

/** Null: it ended with status 0. Else what happened, for people, with the end of its output. */
export type CommandFailure = string | null

/**
 * Runs a person's own command by `/bin/sh -c`, in a process group of its own, so that all of it ends when the time is
 * up or the signal fires: first asked (SIGTERM), five seconds later made to. Never rejects.
 */
export function runCommand(command: string, options: CommandOptions): Promise<CommandFailure> {
  return new Promise((resolve) => {
    const child = spawn('/bin/sh', ['-c', command], { cwd: '/', detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const output = new Tail()
    child.stdout.on('data', (chunk: Buffer) => output.add(chunk))
    child.stderr.on('data', (chunk: Buffer) => output.add(chunk))

    let stopped: string | null = null
    let force: NodeJS.Timeout | undefined
    const stop = (why: string): void => {
      if (stopped !== null) return
      stopped = why
      endGroup(child.pid, 'SIGTERM')
      force = setTimeout(() => endGroup(child.pid, 'SIGKILL'), GRACE_MS)
    }
    const onAbort = (): void => stop('was interrupted')
    const limit = setTimeout(() => stop(`did not end within ${options.limitMs / 1000} s`), options.limitMs)
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) onAbort()

    const release = (): void => {
      clearTimeout(limit)
      clearTimeout(force)
      options.signal?.removeEventListener('abort', onAbort)
    }
    child.once('error', (error) => {
      release()
      resolve(`could not be started (${error.message})`)
    })
    child.once('exit', (status, killedBy) => {
      release()
      const drain = setTimeout(() => {
        child.stdout.destroy()
        child.stderr.destroy()
      }, DRAIN_MS)
      child.once('close', () => {
        clearTimeout(drain)
        resolve(describe(status, killedBy, stopped, output.text()))
      })
    })
  })
}

function describe(
  status: number | null,
  killedBy: NodeJS.Signals | null,
  stopped: string | null,
  output: string,
): CommandFailure {
  if (stopped === null && status === 0) return null
  const what = stopped ?? (killedBy === null ? `ended with status ${status}` : `was ended by ${killedBy}`)
  return output === '' ? what : `${what}, saying: ${output}`
}

function endGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    // It has ended by itself in the meantime.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** The last bytes of a stream, in bounded memory. */
class Tail {
  #bytes: Buffer = Buffer.alloc(0)

  add(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-OUTPUT_BYTES_MAX)
  }

  text(): string {
    return this.#bytes.toString('utf8').trim()
  }
}
