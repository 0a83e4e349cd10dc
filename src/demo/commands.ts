import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { ERRORS, type ErrorCode, RegainError } from '../errors.ts'
import { delay } from './wait.ts'

/** Runs the very commands that a person would type, and reads what they say to programs. */
export interface CommandRunner {
  /** Program and arguments that come before those of the command. */
  regain: readonly string[]
  directory: string
  environment: Readonly<Record<string, string | undefined>>
  signal: AbortSignal
  now(): number
}

export interface CommandOutcome {
  /** Lines of type `result`. */
  results: Record<string, unknown>[]
  warnings: string[]
  durationMs: number
}

/** How long a command may take to end after it was asked to, in ms, before it is killed. */
const END_LIMIT_MS = 30_000
const STDERR_KEPT = 4_000

/**
 * Runs one command to its end. Rejects with its own error, as a RegainError, unless its status is 0; with `interrupted`
 * when the signal fires, after the command has ended.
 */
export async function runRegain(runner: CommandRunner, args: readonly string[]): Promise<CommandOutcome> {
  const [program = '', ...before] = runner.regain
  const startedAt = runner.now()
  const child = spawn(program, [...before, ...args, '--json'], {
    cwd: runner.directory,
    env: runner.environment as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const closed = once(child, 'close')
  const abort = () => void endProcess(child)
  runner.signal.addEventListener('abort', abort, { once: true })
  try {
    const output = readOutput(child)
    await closed.catch((cause: unknown) => {
      throw new RegainError('internal', `${program} could not be run.`, { cause })
    })
    if (runner.signal.aborted) throw new RegainError('interrupted', 'The demo was interrupted.')
    const { results, warnings, error, stderr } = output
    if (child.exitCode !== 0) throw failure(args, child, error, stderr())
    return { results, warnings, durationMs: Math.max(0, runner.now() - startedAt) }
  } finally {
    runner.signal.removeEventListener('abort', abort)
  }
}

/** A command that runs until it is ended, its output in a file. */
export interface BackgroundCommand {
  readonly pid: number
  /** How it ended, in words; null while it runs. */
  ended(): string | null
  /** SIGTERM, and SIGKILL if that does not do; resolves to the exit status, null after a kill. Safe to repeat. */
  end(): Promise<number | null>
  /** SIGKILL, as when its machine loses power; resolves when it is gone. */
  kill(): Promise<void>
}

export async function startRegain(
  runner: CommandRunner,
  args: readonly string[],
  logFile: string,
): Promise<BackgroundCommand> {
  const [program = '', ...before] = runner.regain
  const log = await open(logFile, 'a')
  try {
    const child = spawn(program, [...before, ...args], {
      cwd: runner.directory,
      env: runner.environment as NodeJS.ProcessEnv,
      stdio: ['ignore', log.fd, log.fd],
      // A group of its own: Ctrl-C is for the demo, which ends it in its own order.
      detached: true,
    })
    await once(child, 'spawn')
    return {
      pid: child.pid ?? 0,
      ended: () => (isRunning(child) ? null : (child.signalCode ?? `status ${child.exitCode}`)),
      async end() {
        await endProcess(child)
        return child.exitCode
      },
      async kill() {
        if (!isRunning(child)) return
        const exited = once(child, 'exit')
        child.kill('SIGKILL')
        await exited
      },
    }
  } finally {
    await log.close()
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (!isRunning(child)) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = new AbortController()
  const late = delay(END_LIMIT_MS, timer.signal).then(() => {
    if (isRunning(child)) child.kill('SIGKILL')
  })
  await exited
  timer.abort()
  await late
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

function readOutput(child: ChildProcess) {
  const output = {
    results: [] as Record<string, unknown>[],
    warnings: [] as string[],
    error: null as Record<string, unknown> | null,
    stderr: () => tail,
  }
  let tail = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-STDERR_KEPT)
  })
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const message = parseLine(line)
      if (message?.type === 'result') output.results.push(message)
      if (message?.type === 'warning') output.warnings.push(String(message.message))
      if (message?.type === 'error') output.error = message
    })
  }
  return output
}

/** Null for a line that is no JSON object: what a command's child may print is not ours. */
function parseLine(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}

function failure(
  args: readonly string[],
  child: ChildProcess,
  error: Record<string, unknown> | null,
  stderr: string,
): RegainError {
  const command = `regain ${args[0]}`
  if (error === null) {
    const how = child.exitCode === null ? `ended by ${child.signalCode}` : `ended with status ${child.exitCode}`
    return new RegainError('internal', `${command} ${how}. ${stderr.trim()}`)
  }
  const code = typeof error.code === 'string' && error.code in ERRORS ? (error.code as ErrorCode) : 'internal'
  return new RegainError(code, `${command}: ${error.message}`, { hint: String(error.hint ?? ERRORS[code].hint) })
}
