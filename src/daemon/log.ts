import type { Ambient } from '../model.ts'

/** The daemon's log: one line each, for people or, with `json`, for programs. Every line carries its moment. */
export function daemonLog(write: (line: string) => void, json: boolean, now: () => number): Ambient['log'] {
  return (level, message, fields = {}) => {
    const time = new Date(now()).toISOString()
    if (json) {
      write(JSON.stringify({ time, level, message, ...fields }))
      return
    }
    if (level === 'debug') return
    const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${inWords(value)}`)
    write(`${time} ${level.padEnd(7)} ${oneLine(message)}${pairs.join('')}`)
  }
}

function inWords(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value) ?? 'null'
  return /^[\w./:+@-]+$/.test(value) ? value : JSON.stringify(value)
}

/** Messages may hold names of files and words of servers: none may forge a line or move a terminal's cursor. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, (unit) =>
    unit === '\n' ? ' ' : `\\x${unit.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
