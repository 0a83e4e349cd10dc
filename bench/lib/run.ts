import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What one run of a program cost. */
export interface Cost {
  seconds: number
  /** Of all processors, user and system. Null where /usr/bin/time is missing. */
  cpuSeconds: number | null
  /** Largest resident set of any process of it, in bytes. */
  peakBytes: number | null
}

export interface Command {
  argv: readonly string[]
  cwd?: string
  env?: Record<string, string>
  /** Exit statuses that count as success. Default: 0 alone. */
  accept?: readonly number[]
}

const TIME = '/usr/bin/time'
const OUTPUT_KEPT = 4000
let runs = 0

/** Runs a program to its end, its output thrown away; rejects with the end of what it wrote if it fails. */
export async function measure(command: Command): Promise<Cost> {
  const report = join(tmpdir(), `regain-bench-time-${process.pid}-${runs++}`)
  // GNU time: seconds of user and system, and the largest resident set in KiB, of the program and its children.
  const before = existsSync(TIME) ? [TIME, '-f', '%U %S %M', '-o', report] : []
  const startedAt = performance.now()
  await execute({ ...command, argv: [...before, ...command.argv] })
  const seconds = (performance.now() - startedAt) / 1000
  if (before.length === 0) return { seconds, cpuSeconds: null, peakBytes: null }
  // A line "Command exited with non-zero status" may come first.
  const [user = 0, system = 0, peakKib = 0] = (readFileSync(report, 'utf8').trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number)
  rmSync(report)
  return { seconds, cpuSeconds: user + system, peakBytes: peakKib * 1024 }
}

/** Runs a program and resolves to its standard output. */
export async function execute(command: Command): Promise<string> {
  const [program = '', ...args] = command.argv
  const child = spawn(program, args, {
    cwd: command.cwd ?? '/',
    env: { ...process.env, ...command.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-1_000_000)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-OUTPUT_KEPT)
  })
  const [status] = (await once(child, 'close')) as [number | null]
  if (status !== null && (command.accept ?? [0]).includes(status)) return output
  throw new Error(
    `${command.argv.join(' ')}\nended with status ${status ?? child.signalCode}:\n${errors}${output.slice(-OUTPUT_KEPT)}`,
  )
}

/** A pipeline of the shell, which fails if any part of it does. */
export function shell(script: string): Command {
  return { argv: ['bash', '-c', `set -euo pipefail; ${script}`] }
}

export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
