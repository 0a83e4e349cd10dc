const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** '1.4 GB': three significant digits, powers of 1000. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** '2026-11-20 19:01:18Z' of an RFC 3339 time in UTC; precision below a second is left out. */
export function formatTime(rfc3339: string): string {
  return rfc3339.replace('T', ' ').replace(/\.\d+Z$/, 'Z')
}

/** '1 file', '3 files'. */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number.toLocaleString('en-US')} ${number === 1 ? noun : plural}`
}

export interface Column {
  title: string
  align?: 'right'
}

/** A table in plain text: columns two spaces apart, no trailing blanks. Control characters in cells are made visible. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map(printable))
  const widths = columns.map((column, i) => Math.max(column.title.length, ...cells.map((row) => width(row[i] ?? ''))))
  const line = (row: readonly string[]) =>
    columns
      .map((column, i) => {
        const cell = row[i] ?? ''
        const blanks = ' '.repeat(Math.max(0, widths[i]! - width(cell)))
        return column.align === 'right' ? blanks + cell : cell + blanks
      })
      .join('  ')
      .trimEnd()
  return [line(columns.map((column) => column.title)), ...cells.map(line)]
}

/**
 * Text of a file name or a server that is safe on a terminal: control characters and bytes that are not UTF-8 (lone
 * surrogates) as escapes, so that no name can move the cursor or forge a line.
 */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]|[\ud800-\udfff]/gu,
    (unit) => {
      const code = unit.charCodeAt(0)
      if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`
      if (unit === '\n') return '\\n'
      if (unit === '\t') return '\\t'
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
    },
  )
}

function width(text: string): number {
  return [...text].length
}
