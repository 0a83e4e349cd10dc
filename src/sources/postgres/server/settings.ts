/** One line of postgresql.conf. Inside quotes a quote is doubled, and so must be a backslash. */
export function settingLine(name: string, value: string): string {
  return `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'\n`
}

/**
 * The text of a configuration file without the lines that set one of `names`, as the server would read them: names are
 * compared without case, and anything after the name may follow `=` or blanks.
 */
export function withoutSettings(text: string, names: readonly string[]): string {
  const gone = new Set(names.map((name) => name.toLowerCase()))
  return text
    .split('\n')
    .filter((line) => !gone.has(/^\s*([A-Za-z_][\w.]*)/.exec(line)?.[1]?.toLowerCase() ?? ''))
    .join('\n')
}
