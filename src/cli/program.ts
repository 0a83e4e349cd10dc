import { Command, CommanderError } from 'commander'
import type { Host } from './host.ts'
import type { StandardOutput } from './standard-output.ts'

const EXAMPLES = `
First steps:
  regain demo                     see it work: protect, destroy and recover a real database (3 minutes)
  regain init                     write regain.yaml for your own, and make its key and repository
  regain check                    find out whether backups and restores will work
  regain backup shop              take a recovery point now
  regain serve                    follow the logs and run the schedules
  regain points                   see what can be recovered, and to which moments
  regain restore shop/db --to /srv/restored --at 2026-11-20T14:59:59Z

Every command explains itself with examples: regain backup --help
Exit status: 0 done; 1 failed; 2 usage or configuration; 3 done but incomplete; 4 verification failed;
5 refused; 6 target not empty or precondition not met; 10 no repository; 12 wrong key; 130 interrupted.`

/** The program with its global options and no command. Throws CommanderError instead of ending the process. */
export function createProgram(host: Host, stdout: StandardOutput): Command {
  return new Command('regain')
    .description('Backup and recovery for services. A backup that has not been restored is not a backup.')
    .version(host.version, '-V, --version', 'print the version')
    .option('-c, --config <path>', 'configuration; else $REGAIN_CONFIG, ./regain.yaml, /etc/regain/regain.yaml')
    .option('--json', 'JSON lines on standard output, for programs')
    .option('-q, --quiet', 'only warnings and errors')
    .option('-v, --verbose', 'more of what happens, and the cause of an error')
    .option('--no-color', 'no colours (also: NO_COLOR)')
    .helpOption('-h, --help', 'explain a command')
    .addHelpCommand(helpCommand().helpGroup('Setting up:'))
    .addHelpText('after', EXAMPLES)
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      // Errors are reported once, by runCli; help after a mistake is not data.
      writeErr: () => {},
      outputError: () => {},
    })
    .configureHelp({ showGlobalOptions: true })
}

/** For a command that has commands of its own: it would inherit the program's, with the group where that stands. */
export function helpCommand(): Command {
  return new Command('help').argument('[command]').description('explain a command')
}

/** Of commands that have commands of their own: one to begin with. */
const FIRST_EXAMPLES = new WeakMap<Command, string>()

export function firstExample(command: Command, example: string): void {
  FIRST_EXAMPLES.set(command, example)
}

/** What was meant, as far as the words of a wrong command line tell, and where it is explained. */
export function explainUsage(program: Command, args: readonly string[]): { words: string; hint: string } {
  let command = program
  const words = ['regain']
  for (const [i, arg] of args.entries()) {
    if (arg.startsWith('-') || args[i - 1] === '--config' || args[i - 1] === '-c') continue
    const next = command.commands.find((child) => child.name() === arg)
    if (next === undefined) break
    command = next
    words.push(arg)
  }
  const path = words.join(' ')
  const see = `See ${path} --help.`
  if (command.commands.length === 0 || command === program) return { words: path, hint: see }
  const help = program.createHelp()
  const names = help.visibleCommands(command).map((child) => child.name())
  const example = FIRST_EXAMPLES.get(command)
  const such = example === undefined ? '' : ` For example: ${example}.`
  return { words: path, hint: `It has ${names.filter((name) => name !== 'help').join(', ')}.${such} ${see}` }
}

export function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof CommanderError
}
