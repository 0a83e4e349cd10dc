import type { RegainError } from '../errors.ts'
import type { Progress } from '../model.ts'
import type { Output } from './output.ts'
import type { StandardOutput } from './standard-output.ts'

const PROGRESS_INTERVAL_MS = 1000

/** JSON lines on standard output: progress and warnings, last a result or an error. Nothing for people. */
export function createJsonOutput(
  stdout: StandardOutput,
  now: () => number,
  writeLog: (line: string) => void,
  isVerbose: boolean,
): Output {
  let lastProgressMs = Number.NEGATIVE_INFINITY
  let lastPhase = ''
  const write = (line: object) => stdout.write(`${JSON.stringify(line)}\n`)
  return {
    isJson: true,
    isColoured: false,
    get isClosed() {
      return stdout.isClosed
    },
    progress(progress: Progress) {
      const nowMs = now()
      if (progress.phase === lastPhase && nowMs - lastProgressMs < PROGRESS_INTERVAL_MS) return
      lastProgressMs = nowMs
      lastPhase = progress.phase
      write({ type: 'progress', ...progress })
    },
    warn: (message) => write({ type: 'warning', message }),
    say: () => {},
    line: () => {},
    bytes: (bytes) => stdout.writeBytes(bytes),
    item: (type, value) => write({ type, ...value }),
    result: (value) => write({ type: 'result', ...value }),
    error: (error: RegainError, about = {}) =>
      write({
        type: 'error',
        ...about,
        code: error.code,
        message: error.message,
        hint: error.hint,
        retryable: error.retryable,
      }),
    log: (level, message, fields) => {
      if (isVerbose || level === 'error') writeLog(logLine(level, message, fields))
      // What people read beside the result, programs must not miss.
      if (level === 'error') write({ type: 'warning', message })
    },
    end: () => {},
  }
}

/** One line of the operator's log, for standard error. */
export function logLine(level: string, message: string, fields: Record<string, unknown> = {}): string {
  const pairs = Object.entries(fields).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return `${level}: ${message}${pairs.join('')}`
}
