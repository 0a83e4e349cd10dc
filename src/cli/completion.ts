import type { Command } from 'commander'

/** What can be typed at one place: after `regain`, or after a command. */
interface Place {
  /** Words that lead here: '' or 'key add'. */
  words: string
  commands: { name: string; description: string }[]
  options: { flag: string; description: string }[]
}

/** A completion script made from the program's own description, so that the two cannot differ. */
export function completionScript(shell: 'bash' | 'zsh' | 'fish', program: Command): string {
  const places = collectPlaces(program)
  if (shell === 'bash') return bashScript(places)
  return shell === 'zsh' ? zshScript(places) : fishScript(places)
}

function collectPlaces(program: Command): Place[] {
  const places: Place[] = []
  const globals = optionsOf(program)
  visit(program, [])
  return places

  function visit(command: Command, words: string[]): void {
    const help = program.createHelp()
    const children = help.visibleCommands(command).filter((child) => child.name() !== 'help')
    places.push({
      words: words.join(' '),
      commands: children.map((child) => ({ name: child.name(), description: child.description() })),
      options: [...(words.length === 0 ? [] : optionsOf(command)), ...globals],
    })
    for (const child of children) visit(child, [...words, child.name()])
  }
}

function optionsOf(command: Command): Place['options'] {
  return command.options.flatMap(({ long, hidden, description }) =>
    long && !hidden ? [{ flag: long, description }] : [],
  )
}

function bashScript(places: Place[]): string {
  const cases = places.map(({ words, commands, options }) => {
    const all = [...commands.map(({ name }) => name), ...options.map(({ flag }) => flag), '--help']
    return `    ${bashQuote(words)}) candidates=${bashQuote(all.join(' '))} ;;`
  })
  return `# bash completion for regain
_regain() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} place= candidates= word
  case $previous in
    --config|-c|--to|--files|--destination) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      -*) ;;
      *) place="\${place:+$place }$word" ;;
    esac
  done
  # An argument after a command still completes that command's options.
  while :; do
    case $place in
${cases.map((line) => `  ${line}`).join('\n')}
    esac
    [ -n "$candidates" ] && break
    case $place in
      *' '*) place=\${place% *} ;;
      *) place= ;;
    esac
  done
  COMPREPLY=($(compgen -W "$candidates" -- "$current"))
}
complete -o default -F _regain regain
`
}

function zshScript(places: Place[]): string {
  const cases = places.map(({ words, commands, options }) => {
    const named = commands.map(({ name, description }) => `    ${zshItem(name, description)}`)
    const flags = options.map(({ flag, description }) => `    ${zshItem(flag, description)}`)
    return `    ${bashQuote(words)}) candidates=(\n${[...named, ...flags].map((line) => `  ${line}`).join('\n')}\n    ) ;;`
  })
  return `#compdef regain
# zsh completion for regain
_regain() {
  local place= word
  local -a candidates
  candidates=()
  for word in "\${words[@]:1:$((CURRENT-2))}"; do
    case $word in
      -*) ;;
      *) place="\${place:+$place }$word" ;;
    esac
  done
  while true; do
    case $place in
${cases.map((text) => text.replace(/^/gm, '  ')).join('\n')}
    esac
    (( \${#candidates} )) && break
    case $place in
      *' '*) place=\${place% *} ;;
      *) place= ;;
    esac
  done
  _describe 'regain' candidates
  _files
}
if [ "$funcstack[1]" = "_regain" ]; then
  _regain "$@"
else
  compdef _regain regain
fi
`
}

function fishScript(places: Place[]): string {
  const lines = places.flatMap(({ words, commands, options }) => {
    const condition =
      words === ''
        ? '__fish_use_subcommand'
        : words
            .split(' ')
            .map((word) => `__fish_seen_subcommand_from ${word}`)
            .join('; and ')
    const when = `-n ${fishQuote(condition)}`
    return [
      ...commands.map(
        ({ name, description }) => `complete -c regain ${when} -f -a ${name} -d ${fishQuote(description)}`,
      ),
      ...(words === '' ? [] : options).map(
        ({ flag, description }) => `complete -c regain ${when} -l ${flag.slice(2)} -d ${fishQuote(description)}`,
      ),
    ]
  })
  return `# fish completion for regain\n${[...new Set(lines)].join('\n')}\n`
}

/** For a string in single quotes, of POSIX shells. */
function bashQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** '_describe' splits at the first colon that is not escaped. */
function zshItem(name: string, description: string): string {
  return bashQuote(`${name.replaceAll(':', '\\:')}:${description.replaceAll(':', '\\:')}`)
}

function fishQuote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
