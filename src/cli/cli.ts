import type { Command } from 'commander'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Application, Reporting } from '../operations/context.ts'
import { COMMANDS, type CommandName } from './commands.ts'
import type { Host } from './host.ts'
import { createJsonOutput } from './json.ts'
import type { Output } from './output.ts'
import { createProgram, explainUsage, isCommanderError } from './program.ts'
import { createHumanOutput } from './render.ts'
import { StandardOutput } from './standard-output.ts'

/** What a command's action is handed. */
export interface Session {
  readonly host: Host
  readonly output: Output
  readonly signal: AbortSignal
  /** Interruption, progress and remarks, as operations take them. */
  readonly reporting: Reporting
  /** Value of --config. */
  readonly configFlag: string | undefined
  /** The program with every command, for the completion scripts. */
  wholeProgram(): Promise<Command>
  /** The application of the configuration in effect; rejects with `config-not-found` or `config-invalid`. */
  application(): Promise<Application>
}

/** An action resolves to the exit status. */
export type Register = (program: Command, run: (action: (session: Session) => Promise<number>) => Promise<void>) => void

interface GlobalOptions {
  config?: string
  json?: boolean
  quiet?: boolean
  verbose?: boolean
  color: boolean
}

/** Runs one command line and resolves to the exit status; never rejects. */
export async function runCli(args: readonly string[], host: Host): Promise<number> {
  const stdout = new StandardOutput(host.stdout)
  // Nobody reads what people would have been told; the work goes on.
  host.stderr.on('error', () => {})
  // Mistakes in the command line itself are reported before its options are known.
  let output = createOutput(host, stdout, { json: args.includes('--json'), color: !args.includes('--no-color') })
  let status = 0
  const program: Command = createProgram(host, stdout)

  try {
    const names = commandsFor(args)
    for (const name of names) await register(program, name)
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    status = report(explainMistake(error, program, args), output, host.signal)
  }
  const lost = await stdout.settle()
  if (lost !== null && status === 0) status = report(lost, output, host.signal)
  output.end()
  return status

  async function register(program: Command, name: CommandName): Promise<void> {
    const module = await COMMANDS[name]()
    module.register(program, async (action) => {
      const options = program.opts<GlobalOptions>()
      output = createOutput(host, stdout, options)
      status = await action(createSession(options, output))
    })
  }

  function createSession(options: GlobalOptions, current: Output): Session {
    return {
      host,
      output: current,
      signal: host.signal,
      reporting: { signal: host.signal, progress: current.progress, warn: current.warn },
      configFlag: options.config,
      async wholeProgram() {
        const program = createProgram(host, stdout)
        for (const name of Object.keys(COMMANDS) as CommandName[]) await register(program, name)
        return program
      },
      async application() {
        throwIfInterrupted(host.signal)
        const { loadApplication } = await import('./application.ts')
        return loadApplication(host, current, options.config)
      },
    }
  }
}

/** The one command that is named, so that a start loads one; all of them for help and for words that are no command. */
function commandsFor(args: readonly string[]): CommandName[] {
  const all = Object.keys(COMMANDS) as CommandName[]
  // --version needs none. The value of --config is the only word that may come before a command.
  if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) return []
  const word = args.find((arg, i) => !arg.startsWith('-') && args[i - 1] !== '--config' && args[i - 1] !== '-c')
  return word !== undefined && all.includes(word as CommandName) ? [word as CommandName] : all
}

function createOutput(host: Host, stdout: StandardOutput, options: GlobalOptions): Output {
  const isVerbose = options.verbose === true
  if (options.json === true) {
    return createJsonOutput(
      stdout,
      () => host.ambient.now(),
      (line) => host.stderr.write(`${line}\n`),
      isVerbose,
    )
  }
  const isColoured = options.color && !host.environment.NO_COLOR && host.stderr.isTTY === true
  return createHumanOutput(host, stdout, { isQuiet: options.quiet === true, isVerbose, isColoured })
}

/** A wrong command line, in our words. */
function explainMistake(error: unknown, program: Command, args: readonly string[]): unknown {
  if (!isCommanderError(error) || error.exitCode === 0) return error
  const { words, hint } = explainUsage(program, args)
  // Commander has already worded it; help asked for by mistake carries no message of its own.
  const message = error.message.replace(/^error: /, '')
  const nothing = words === 'regain' ? 'No command was given.' : `${words} needs one of its commands.`
  return new RegainError('usage', message.startsWith('(') ? nothing : message, { hint })
}

/** Tells what went wrong and gives the exit status. */
function report(error: unknown, output: Output, signal: AbortSignal): number {
  if (isCommanderError(error)) return 0
  if (error instanceof RegainError) return told(error)
  // What an interruption tears down fails in many words; the person asked for it and knows.
  if (signal.aborted) return told(new RegainError('interrupted', 'The operation was interrupted.', { cause: error }))
  const message = error instanceof Error ? error.message : String(error)
  return told(new RegainError('internal', `An unexpected error: ${message}`, { cause: error }))

  function told(known: RegainError): number {
    output.error(known)
    return known.exit
  }
}
