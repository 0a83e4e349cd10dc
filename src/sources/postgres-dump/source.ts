import type { Ambient } from '../../model.ts'
import type { PointReader, RestoreSummary, RestoreTarget, Source, SourceOptions } from '../contract.ts'
import { requirePlainRestore } from '../postgres/parts/point-of-files.ts'
import { describeServers, parseServerUrl } from '../postgres/protocol/connection-url.ts'
import type { BinarySearch } from '../postgres/server/programs.ts'
import { backupDumps } from './backup.ts'
import { checkDumps } from './check.ts'
import type { ClientContext } from './client-environment.ts'
import { dumpPositionsOf } from './positions.ts'
import { createDumpRestore } from './restore/restore-dumps.ts'
import { tablePattern } from './tables.ts'

export interface PostgresDumpConfig {
  url: string
  /** Empty: all that take connections and are no templates. */
  databases: readonly string[]
  /** Tables whose rows are left out: see tablePattern. */
  exclude: readonly string[]
  /** False: rows of unlogged tables are left out. */
  unlogged: boolean
  /** How many programs may read from the server at once, or load into one. */
  jobs: number
  fingerprint: boolean
}

export interface PostgresDumpContext extends ClientContext {
  ambient: Ambient
  search: BinarySearch
  /** Tables of more than this have archives of their own. Default: 256 MiB. */
  largeTableBytes?: number
}

const LARGE_TABLE_BYTES = 256 * 1024 * 1024

/** Databases of a PostgreSQL server, 13 to 18, as archives of pg_dump. */
export function createPostgresDumpSource(config: PostgresDumpConfig, context: PostgresDumpContext): Source {
  const { url, exclude, ...rest } = config
  const job = {
    ...rest,
    ...context,
    servers: parseServerUrl(url),
    isExcluded: exclude.map(tablePattern),
    largeTableBytes: context.largeTableBytes ?? LARGE_TABLE_BYTES,
  }
  return {
    type: 'postgres-dump',
    unordered: true,
    description: describeServers(job.servers),
    check: ({ signal }) => checkDumps(job, signal),
    backup: (writer, options) => backupDumps(job, writer, options),
    restore: restoreFiles,
    parts: createDumpRestore({
      ...context,
      jobs: config.jobs,
      database: job.servers.candidates[0]!.database,
    }),
  }
}

/** The archives as they were made, for pg_restore. */
async function restoreFiles(
  reader: PointReader,
  target: RestoreTarget,
  options: SourceOptions,
): Promise<RestoreSummary> {
  requirePlainRestore('dumps', target)
  const { databases, startTime } = dumpPositionsOf(reader.point)
  const summary = await reader.materialize(target.directory, options)
  return { ...summary, reached: databases[0]?.snapshotTime ?? startTime }
}
