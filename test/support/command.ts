import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { join } from 'node:path'

/** The launcher of this checkout: tests of the command line run what a person runs. */
export const LAUNCHER = join(import.meta.dirname, '../../regain')

export interface CommandResult {
  /** Null after a signal. */
  status: number | null
  stdout: string
  stderr: string
}

/** What is under way; `result` resolves when it has ended. */
export interface RunningCommand {
  child: ChildProcess
  result: Promise<CommandResult>
}

/** `input`: what it reads from standard input; nothing if left out. */
export type CommandOptions = SpawnOptions & { input?: string }

export function startCommand(
  program: string,
  args: readonly string[],
  { input, ...options }: CommandOptions = {},
): RunningCommand {
  const child = spawn(program, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'], ...options })
  child.stdin?.end(input)
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
  const result = new Promise<CommandResult>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status) => {
      resolve({ status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
    })
  })
  return { child, result }
}

export function runCommand(program: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult> {
  return startCommand(program, args, options).result
}

/** Every line of --json, parsed: one that is not JSON fails the test that reads it. */
export function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}
