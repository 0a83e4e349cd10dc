import { styleText } from 'node:util'
import type { RegainError } from '../errors.ts'
import type { Progress } from '../model.ts'
import { printable } from './format.ts'
import type { Host } from './host.ts'
import { logLine } from './json.ts'
import type { Output, OutputOptions } from './output.ts'
import { ProgressMeter } from './progress-bar.ts'
import type { StandardOutput } from './standard-output.ts'

const REDRAW_INTERVAL_MS = 100
const DEFAULT_COLUMNS = 80
const CLEAR_LINE = '\r\u001b[K'

/** Lines for people on standard error, data on standard output. */
export function createHumanOutput(host: Host, stdout: StandardOutput, options: OutputOptions): Output {
  const { stderr } = host
  const isTerminal = stderr.isTTY === true && !options.isQuiet && host.environment.TERM !== 'dumb'
  const isUnicode = /utf-?8/i.test(host.environment.LC_ALL || host.environment.LC_CTYPE || host.environment.LANG || '')
  const meter = new ProgressMeter()
  let lastDrawMs = Number.NEGATIVE_INFINITY
  let isBarShown = false

  const paint = (style: 'red' | 'yellow' | 'dim' | 'bold', text: string) =>
    options.isColoured ? styleText(style, text, { validateStream: false }) : text
  const clear = () => {
    if (isBarShown) stderr.write(CLEAR_LINE)
    isBarShown = false
  }
  const writeLine = (text: string) => {
    clear()
    stderr.write(`${text}\n`)
  }

  return {
    isJson: false,
    isColoured: options.isColoured,
    get isClosed() {
      return stdout.isClosed
    },
    progress(progress: Progress) {
      if (!isTerminal) return
      const nowMs = host.ambient.now()
      if (nowMs - lastDrawMs < REDRAW_INTERVAL_MS && nowMs >= lastDrawMs) return
      lastDrawMs = nowMs
      stderr.write(CLEAR_LINE + meter.line(progress, nowMs, stderr.columns || DEFAULT_COLUMNS, isUnicode))
      isBarShown = true
    },
    warn: (message) => writeLine(`${paint('yellow', 'Warning:')} ${printableLines(message)}`),
    say: (line) => {
      if (!options.isQuiet) writeLine(printableLines(line))
    },
    line: (text) => {
      clear()
      stdout.write(`${text}\n`)
    },
    bytes: (bytes) => stdout.writeBytes(bytes),
    item: () => {},
    result: () => {},
    error(error: RegainError) {
      writeLine(`${paint('red', 'Error:')} ${printableLines(error.message)}`)
      writeLine(`  ${printableLines(error.hint)}`)
      if (options.isVerbose) writeLine(paint('dim', fullStack(error)))
    },
    log: (level, message, fields) => {
      if (options.isVerbose || level === 'error' || level === 'warning')
        writeLine(paint('dim', printable(logLine(level, message, fields))))
    },
    end: clear,
  }
}

function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

function fullStack(error: Error): string {
  const parts: string[] = []
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    parts.push(at.stack ?? String(at))
  }
  return parts.join('\ncaused by ')
}
