import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Entry, Missed } from '../../model.ts'
import type { BackupOptions, PointWriter, SourceSummary } from '../contract.ts'
import { MAX_FINGERPRINT_MS } from '../postgres/fingerprint/take-fingerprint.ts'
import { chooseServer } from '../postgres/protocol/choose-server.ts'
import { type ConnectionConfig, describeConnection, type ServerUrl } from '../postgres/protocol/connection-url.ts'
import { findClientPrograms } from '../postgres/server/programs.ts'
import { withClientEnvironment } from './client-environment.ts'
import { type DumpedOutcome, dumpDatabase } from './dump-database.ts'
import { DUMPING, type Dumping, dumpFiles } from './dump-files.ts'
import { HOW_TO, HOW_TO_PATH } from './how-to.ts'
import { type DumpPositions, GLOBALS } from './positions.ts'
import { readServer, type ServerOfDumps } from './server.ts'
import type { PostgresDumpConfig, PostgresDumpContext } from './source.ts'
import type { DumpTable } from './tables.ts'

export interface DumpJob extends Omit<PostgresDumpConfig, 'url' | 'exclude'>, PostgresDumpContext {
  servers: ServerUrl
  isExcluded: ((table: Pick<DumpTable, 'schema' | 'name'>) => boolean)[]
  largeTableBytes: number
}

/**
 * Databases one after the other, each of one moment; what pg_dump writes goes straight into the point. A database that is
 * gone, or may not be entered or read, is missed, and the point incomplete. When a program fails in the middle, the backup
 * fails: nothing that is half there can be taken for a dump.
 */
export async function backupDumps(job: DumpJob, writer: PointWriter, options: BackupOptions): Promise<SourceSummary> {
  const { signal, warn } = options
  throwIfInterrupted(signal)
  if (options.kind === 'incremental')
    warn('Dumps are read whole each time; of what they hold, only what is new is stored.')
  const config = await chooseServer(job.servers, signal)
  const server = await readServer(config, job.databases, signal)
  const programs = await findClientPrograms(server.major, DUMPING, job.search)
  return withClientEnvironment(config, job, async (environment) => {
    let bytesDone = 0
    const written = (bytes: number): void => {
      bytesDone += bytes
      options.progress({ phase: 'dump', bytesDone })
    }
    const add = new Adder(writer, server)
    const dumping: Dumping = { programs, environment, options, jobs: job.jobs, open: (path) => add.file(path), written }
    await add.folder('')
    await add.text(HOW_TO_PATH, HOW_TO)
    await dumpGlobals(dumping, config, server, warn)
    await add.folder('databases')
    const { dumped, missed } = await dumpDatabases(job, server, config, dumping, add)
    const positions: DumpPositions = {
      version: server.version,
      major: server.major,
      programs: programs.version,
      standby: server.standby,
      startTime: server.now,
      rolePasswords: server.canReadPasswords,
      databases: dumped.map(({ database }) => database),
    }
    const databases = dumped.flatMap(({ fingerprint }) => fingerprint ?? [])
    return {
      kind: 'full',
      root: describeConnection(config),
      positions: { ...positions },
      sourceBytes: bytesDone,
      missed,
      ...(job.fingerprint ? { fingerprint: { at: server.now, databases } } : {}),
    }
  })
}

/** Roles, their memberships and settings, and tablespaces, as SQL. */
async function dumpGlobals(
  dumping: Dumping,
  config: ConnectionConfig,
  { canReadPasswords }: ServerOfDumps,
  warn: (message: string) => void,
): Promise<void> {
  const args = ['--globals-only', '--no-password', `--database=${config.database}`]
  if (!canReadPasswords) {
    warn(`Passwords of roles are not in the point, because ${config.user} may not read them.`)
    args.push('--no-role-passwords')
  }
  await dumpFiles(dumping, [{ path: GLOBALS, program: 'pg_dumpall', args, bytes: 0 }])
}

async function dumpDatabases(
  job: DumpJob,
  server: ServerOfDumps,
  config: ConnectionConfig,
  dumping: Dumping,
  add: Adder,
): Promise<{ dumped: DumpedOutcome[]; missed: Missed[] }> {
  const { signal, warn } = dumping.options
  const dumped: DumpedOutcome[] = []
  const missed: Missed[] = server.absent.map((path) => ({
    path,
    reason: 'vanished',
    detail: `There is no database ${path} that takes connections.`,
  }))
  let firstError: RegainError | null = null
  const endMs = job.ambient.now() + MAX_FINGERPRINT_MS
  const leftMs = () => endMs - job.ambient.now()
  for (const database of server.databases) {
    throwIfInterrupted(signal)
    const begins = (folder: string) => add.folder(folder)
    const outcome = await dumpDatabase({ job, server, config: { ...config, database }, dumping, leftMs, begins })
    if ('error' in outcome) {
      firstError ??= outcome.error
      missed.push(outcome.missed)
      warn(outcome.error.message)
    } else {
      dumped.push(outcome)
      missed.push(...outcome.missed)
    }
  }
  if (dumped.length > 0) return { dumped, missed }
  throw (
    firstError ??
    new RegainError(
      'source-unsuitable',
      `${describeConnection(config)} has none of the databases that are to be dumped.`,
      {
        hint: 'Correct databases: of this source.',
      },
    )
  )
}

/** Entries of the point, one at a time, however many programs run. */
class Adder {
  readonly #writer: PointWriter
  readonly #mtime: string
  #last: Promise<unknown> = Promise.resolve()

  constructor(writer: PointWriter, { now }: ServerOfDumps) {
    this.#writer = writer
    this.#mtime = `${Date.parse(now)}000000`
  }

  folder(path: string): Promise<void> {
    return this.#inTurn(() => this.#writer.add(this.#entry(path, 'directory', 0o700)))
  }

  file(path: string): ReturnType<PointWriter['addStream']> {
    return this.#inTurn(() => this.#writer.addStream(this.#entry(path, 'file', 0o600), 'dump'))
  }

  async text(path: string, text: string): Promise<void> {
    const stream = await this.file(path)
    await stream.write(Buffer.from(text))
    await stream.end()
  }

  #entry(path: string, type: 'file' | 'directory', mode: number): Entry {
    return { path, type, mode, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mtime: this.#mtime }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work)
    // Whoever asked hears of it; the next one gets its turn.
    this.#last = turn.catch(() => undefined)
    return turn
  }
}
