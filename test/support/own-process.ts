import { randomBytes } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { runCli } from '../../src/cli/cli.ts'
import { drivers } from '../../src/main.ts'
import { type CommandResult, LAUNCHER } from './command.ts'

/** A command line as the launcher runs it, in this process: half a second less for each than starting one. */
export async function runInProcess(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<CommandResult & { status: number }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const texts = [stdout, stderr].map(async (stream) => {
    const pieces: Buffer[] = []
    for await (const piece of stream) pieces.push(piece as Buffer)
    return Buffer.concat(pieces).toString()
  })
  const status = await runCli(args, {
    version: '0.0.0',
    ambient: { now: Date.now, randomBytes },
    environment,
    drivers,
    launcher: LAUNCHER,
    stdin: Readable.from([]),
    stdout,
    stderr,
    signal: new AbortController().signal,
    onHangUp: () => () => undefined,
    processId: process.pid,
    userId: process.getuid?.() ?? null,
  })
  stdout.end()
  stderr.end()
  const [out = '', err = ''] = await Promise.all(texts)
  return { status, stdout: out, stderr: err }
}
