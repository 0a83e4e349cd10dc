import { isRegainError, RegainError } from '../../errors.ts'
import type { ContentStream, SourceOptions } from '../contract.ts'
import { Client } from '../postgres/parts/client-programs.ts'
import type { ClientPrograms } from '../postgres/server/programs.ts'

/** What a backup needs, and what a restore. */
export const DUMPING = ['pg_dump', 'pg_dumpall'] as const
export const RESTORING = ['pg_restore', 'psql'] as const

/** A file of a point, and the program that writes it to its standard output. */
export interface DumpFile {
  path: string
  program: (typeof DUMPING)[number]
  args: string[]
  /** Set when it is done. */
  bytes: number
}

export interface Dumping {
  programs: ClientPrograms
  environment: Record<string, string>
  options: SourceOptions
  /** How many programs run at once. */
  jobs: number
  /** Adds an entry to the point, of a size that shows at its end. Its calls may overlap. */
  open(path: string): Promise<ContentStream>
  written(bytes: number): void
}

/**
 * Runs the programs, some at a time, straight into the point. Rejects with the first failure, when all others have ended;
 * then something that is no whole archive is in the session, which must be given up.
 */
export async function dumpFiles(dumping: Dumping, files: readonly DumpFile[]): Promise<void> {
  const failed = new AbortController()
  const signal = AbortSignal.any([dumping.options.signal, failed.signal])
  const waiting = [...files]
  let failure: { error: unknown } | null = null
  const work = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined && failure === null; file = waiting.shift()) {
      try {
        await dumpFile(dumping, file, signal)
      } catch (error) {
        failure ??= { error }
        failed.abort()
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(dumping.jobs, files.length) }, work))
  // Assigned in `work`, which the compiler does not see.
  const first = failure as { error: unknown } | null
  if (first !== null) throw first.error
}

async function dumpFile(dumping: Dumping, file: DumpFile, signal: AbortSignal): Promise<void> {
  const client = new Client(dumping.programs, file.program, file.args, dumping.environment, signal)
  try {
    const stream = await dumping.open(file.path)
    for await (const piece of client.output as AsyncIterable<Buffer>) {
      await stream.write(piece)
      file.bytes += piece.length
      dumping.written(piece.length)
    }
    // Only one that ended well has written a whole archive.
    await ended(client, file)
    await stream.end()
  } finally {
    await client.end()
  }
}

async function ended(client: Client, { path }: DumpFile): Promise<void> {
  try {
    await client.ended()
  } catch (error) {
    if (!isRegainError(error, 'precondition-failed')) throw error
    throw new RegainError('source-unavailable', `${path} could not be dumped: ${error.message} Nothing was stored.`, {
      cause: error,
      hint: 'Correct what PostgreSQL complains of and take the backup again; leave out what cannot be read with exclude: or databases:.',
    })
  }
}
