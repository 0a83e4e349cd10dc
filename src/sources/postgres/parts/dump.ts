import { open } from 'node:fs/promises'
import { isRegainError, RegainError } from '../../../errors.ts'
import type { SourceOptions } from '../../contract.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import type { ClientPrograms } from '../server/programs.ts'
import { Client, clientEnvironment } from './client-programs.ts'
import { formatOf } from './output.ts'
import { type NamedRoles, readRoles } from './roles.ts'
import { type ChosenParts, dumpArguments } from './selection.ts'

/** pg_dump of chosen parts of a sandbox's database. */
export interface DumpRequest {
  programs: ClientPrograms
  /** The sandbox's database. */
  from: ConnectionConfig
  chosen: ChosenParts
  /** The PATH variable, should a program be a script. */
  path: string
  options: SourceOptions
}

/** Which roles the definitions name. Reads no rows. */
export async function readDumpRoles(request: DumpRequest): Promise<NamedRoles> {
  const client = startDump(request, ['--schema-only'])
  try {
    const roles = await readRoles(client.lines())
    await client.ended()
    return roles
  } finally {
    await client.end()
  }
}

/** Into a file, or a directory of pg_dump's own making, that is not there yet. Bytes written, as far as they are a file's. */
export async function dumpToFile(request: DumpRequest, finalPath: string, path: string): Promise<number> {
  const format = formatOf(finalPath)
  if (format === 'directory') {
    const client = startDump(request, ['--format=directory', `--file=${path}`])
    try {
      client.discardOutput()
      await client.ended()
    } finally {
      await client.end()
    }
    return 0
  }
  const client = startDump(request, [`--format=${format}`])
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      const bytes = meter(request.options)
      await client.pipeTo(file.createWriteStream({ autoClose: false }), bytes.add)
      await client.ended()
      return bytes.done()
    } finally {
      await file.close()
    }
  } finally {
    await client.end()
  }
}

/** Into another database, in one transaction there: all of it, or nothing. */
export async function dumpToDatabase(
  request: DumpRequest,
  to: ConnectionConfig,
  inherited: Readonly<Record<string, string>>,
  restoreArguments: readonly string[],
): Promise<number> {
  const { options, programs } = request
  const dump = startDump(request, ['--format=custom', '--compress=0'])
  const environment = clientEnvironment(to, { ...inherited, PATH: request.path })
  const args = [
    '--single-transaction',
    '--no-password',
    ...restoreArguments,
    `--dbname=dbname=${conninfo(to.database)}`,
  ]
  let load: Client | null = null
  try {
    load = new Client(programs, 'pg_restore', args, environment, options.signal)
    load.discardOutput()
    const bytes = meter(options)
    const broken = await dump.pipeTo(load.input, bytes.add).then(
      () => null,
      (error: unknown) => ({ error }),
    )
    if (broken !== null) {
      // It took no more: why, it says itself. Otherwise the pipe broke on the way here.
      await load.ended().catch((error: unknown) => {
        throw explainLoad(error)
      })
      throw broken.error
    }
    // Only a whole archive may be taken for the end of one.
    await dump.ended()
    load.endInput()
    await load.ended().catch((error: unknown) => {
      throw explainLoad(error)
    })
    return bytes.done()
  } finally {
    // In this order, so that it never sees the end of half an archive.
    await load?.end()
    await dump.end()
  }
}

function startDump({ programs, from, chosen, path, options }: DumpRequest, args: readonly string[]): Client {
  const all = ['--no-password', ...args, ...dumpArguments(chosen)]
  return new Client(programs, 'pg_dump', all, clientEnvironment(from, { PATH: path }), options.signal)
}

function explainLoad(error: unknown): unknown {
  if (!isRegainError(error, 'precondition-failed')) return error
  return new RegainError(
    'precondition-failed',
    `${error.message}\nIt was one transaction: nothing of it is in the target.`,
    {
      hint: 'Make there first what it complains of; or restore into an empty database or a file and copy from there.',
      cause: error,
    },
  )
}

function meter(options: SourceOptions): { add(bytes: number): void; done(): number } {
  let bytesDone = 0
  return {
    add(bytes) {
      bytesDone += bytes
      options.progress({ phase: 'dump', bytesDone })
    },
    done: () => bytesDone,
  }
}

/** A value of libpq's connection strings. */
function conninfo(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
