import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { isRegainError, RegainError } from '../../../errors.ts'
import type { SourceOptions } from '../../contract.ts'
import { Client } from '../../postgres/parts/client-programs.ts'
import type { ClientPrograms } from '../../postgres/server/programs.ts'
import type { DumpedDatabase } from '../positions.ts'
import type { Archives } from './archives.ts'

/** One database's archives, and what of them is loaded. */
export interface Load {
  archives: Archives
  database: DumpedDatabase
  /** File of the archive's table of contents: see Archives.head. */
  head: string
  /** File for pg_restore --use-list; null: everything. */
  list: string | null
  /** Large tables whose archives are loaded. */
  tables: DumpedDatabase['tables']
  /** As --no-owner. */
  args: readonly string[]
  programs: ClientPrograms
  environment: Record<string, string>
  options: SourceOptions
  /** Bytes of archives that programs took. */
  taken(bytes: number): void
}

/** Definitions, then rows, then what would slow rows down or depends on all of them: indexes, keys, triggers. */
interface Step {
  args: string[]
  /** Path in the point; null: the head alone. */
  archive: string | null
}

function stepsOf({ database, head, list, tables, args }: Load): { before: Step; rows: Step[]; after: Step } {
  const chosen = list === null ? [] : [`--use-list=${list}`]
  return {
    before: { args: [...args, ...chosen, '--section=pre-data', head], archive: null },
    rows: [
      { args: [...args, ...chosen, '--section=data'], archive: database.archive },
      ...tables.map(({ archive }) => ({ args: [...args, '--section=data'], archive })),
    ],
    after: { args: [...args, ...chosen, '--section=post-data', head], archive: null },
  }
}

/**
 * Straight into a database that is ours alone: rows of several archives at once, and indexes. Not one transaction: when it
 * rejects, part of it is there.
 */
export async function loadParallel(load: Load, database: string, jobs: number): Promise<void> {
  const environment = { ...load.environment, PGDATABASE: database }
  const into = ['--exit-on-error', '--no-password', `--dbname=dbname=${conninfo(database)}`]
  const { before, rows, after } = stepsOf(load)
  const failed = new AbortController()
  const signal = AbortSignal.any([load.options.signal, failed.signal])
  const run = async (step: Step, more: string[] = []): Promise<void> => {
    const client = new Client(load.programs, 'pg_restore', [...into, ...more, ...step.args], environment, signal)
    try {
      client.discardOutput()
      await feed(load, client, step)
      await ended(client)
    } finally {
      await client.end()
    }
  }
  await run(before)
  const waiting = [...rows]
  let failure: { error: unknown } | null = null
  const work = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined && failure === null; step = waiting.shift()) {
      try {
        await run(step)
      } catch (error) {
        failure ??= { error }
        failed.abort()
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, rows.length) }, work))
  // Assigned in `work`, which the compiler does not see.
  const first = failure as { error: unknown } | null
  if (first !== null) throw first.error
  await run(after, [`--jobs=${jobs}`])
}

/** Into a database in one transaction: all of it or nothing, also of what is there already. */
export async function loadInOneTransaction(load: Load, database: string): Promise<void> {
  const args = ['--no-psqlrc', '--quiet', '--no-password', '--single-transaction', '--set=ON_ERROR_STOP=1', '--file=-']
  const psql = new Client(
    load.programs,
    'psql',
    args,
    { ...load.environment, PGDATABASE: database },
    load.options.signal,
  )
  try {
    psql.discardOutput()
    try {
      await writeScript(load, (piece) => writeTo(psql.input, piece))
    } catch (error) {
      // It took no more: why, it says itself. Otherwise the trouble is on this side.
      if (!isBrokenPipe(error)) throw error
      await ended(psql)
      throw error
    }
    // Only a whole script may be taken for the end of one: the commit follows.
    psql.endInput()
    await ended(psql)
  } finally {
    await psql.end()
  }
}

/** SQL for psql, piece by piece; a piece is written before the next one is asked for. */
export async function writeScript(load: Load, write: (piece: Buffer) => Promise<void>): Promise<void> {
  const { before, rows, after } = stepsOf(load)
  for (const step of [before, ...rows, after]) {
    const client = new Client(
      load.programs,
      'pg_restore',
      ['--file=-', ...step.args],
      load.environment,
      load.options.signal,
    )
    try {
      // Both at once: it writes while it reads. The first that fails ends the other, whose error only follows from it.
      const both = [feed(load, client, step), passOn(client, write)]
      await Promise.all(both).catch(async (error: unknown) => {
        await client.end()
        await Promise.allSettled(both)
        throw error
      })
      await ended(client)
    } finally {
      await client.end()
    }
  }
}

async function passOn(client: Client, write: (piece: Buffer) => Promise<void>): Promise<void> {
  for await (const piece of client.output as AsyncIterable<Buffer>) await write(piece)
}

/** Resolves when it was taken, rejects when it never will be. */
function writeTo(sink: Writable, piece: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    sink.write(piece, (error) => (error ? reject(error) : resolve()))
  })
}

/** The archive to its standard input, as far as it wants it. */
async function feed(load: Load, client: Client, { archive }: Step): Promise<void> {
  if (archive === null) {
    client.endInput()
    return
  }
  try {
    await pipeline(async function* () {
      for await (const piece of load.archives.content(archive)) {
        load.taken(piece.length)
        yield piece
      }
    }, client.input)
  } catch (error) {
    // It ended before its input: with an error that its status tells, or content with what it had.
    if (!isBrokenPipe(error)) throw error
  }
}

function isBrokenPipe(error: unknown): boolean {
  const code = (error as { code?: string } | null)?.code
  return (
    code === 'EPIPE' ||
    code === 'ERR_STREAM_PREMATURE_CLOSE' ||
    code === 'ECONNRESET' ||
    code === 'ERR_STREAM_DESTROYED'
  )
}

async function ended(client: Client): Promise<void> {
  try {
    await client.ended()
  } catch (error) {
    if (!isRegainError(error, 'precondition-failed')) throw error
    throw new RegainError('precondition-failed', error.message, {
      hint: 'Make there first what it complains of, or restore into a directory or a file and load it by hand.',
      cause: error,
    })
  }
}

/** A value of libpq's connection strings. */
function conninfo(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
