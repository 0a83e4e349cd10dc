import type pg from 'pg'
import { isRegainError, RegainError, throwIfInterrupted } from '../../errors.ts'
import type { DatabaseFingerprint, Missed } from '../../model.ts'
import { readDatabase } from '../postgres/fingerprint/read-database.ts'
import { countsEach } from '../postgres/fingerprint/take-fingerprint.ts'
import { withSql } from '../postgres/protocol/connection.ts'
import { sqlStateOf } from '../postgres/protocol/connection-errors.ts'
import type { ConnectionConfig } from '../postgres/protocol/connection-url.ts'
import type { DumpJob } from './backup.ts'
import { type DumpFile, type Dumping, dumpFiles } from './dump-files.ts'
import { type DumpedDatabase, folderOf } from './positions.ts'
import type { ServerOfDumps } from './server.ts'
import { holdSnapshot, LOCK_WAIT_MS, type Snapshot } from './snapshot.ts'
import { type DumpTable, withDescendants } from './tables.ts'

export interface DumpDatabase {
  job: DumpJob
  server: ServerOfDumps
  /** Of the database. */
  config: ConnectionConfig
  dumping: Dumping
  /** For all fingerprints together. */
  leftMs(): number
  /** Before its first file. */
  begins(folder: string): Promise<void>
}

export interface DumpedOutcome {
  database: DumpedDatabase
  fingerprint: DatabaseFingerprint | null
  /** What was asked for and cannot be read on a standby. */
  missed: Missed[]
}

const MAX_LEFT_OUT_NAMED = 1000
/** As arguments of one program: far below what the kernel takes. */
const MAX_LEFT_OUT = 10_000
const MAX_LARGE = 64

/**
 * All of one database, of one moment. Null, and `missed` told, if it cannot be begun: it is gone, or may not be entered or
 * read. Rejects if it fails later, when part of it is in the session.
 */
export async function dumpDatabase(
  request: DumpDatabase,
): Promise<DumpedOutcome | { error: RegainError; missed: Missed }> {
  const { config, dumping } = request
  const { signal } = dumping.options
  let hasBegun = false
  try {
    return await withSql(config, signal, async (client) => {
      const snapshot = await holdSnapshot(client)
      hasBegun = true
      return dumpSnapshot(request, client, snapshot)
    })
  } catch (error) {
    throwIfInterrupted(signal)
    if (hasBegun || !isRegainError(error)) throw error
    const explained = explain(error, config.database)
    const reason = sqlStateOf(error) === '3D000' ? 'vanished' : 'unreadable'
    return { error: explained, missed: { path: config.database, reason, detail: explained.message } }
  }
}

function explain(error: RegainError, database: string): RegainError {
  const state = sqlStateOf(error)
  const hint =
    state === '42501'
      ? 'Let the role read: GRANT pg_read_all_data TO it (14 and later), or leave the database out with databases:.'
      : state === '55P03'
        ? `A table was locked by somebody else for ${LOCK_WAIT_MS / 60_000} minutes. Take the backup at another time.`
        : state === '53200'
          ? 'The server has no room for a lock on each table: raise max_locks_per_transaction, and restart it.'
          : error.hint
  return new RegainError(error.code, `The database ${database} is not in the point: ${error.message}`, {
    cause: error,
    hint,
  })
}

async function dumpSnapshot(request: DumpDatabase, client: pg.Client, snapshot: Snapshot): Promise<DumpedOutcome> {
  const { job, server, config, dumping } = request
  const { database: name } = config
  const leftOut = chooseLeftOut(job, server, snapshot)
  const leftOutNames = new Set([...leftOut].map(({ text }) => text))
  const large = snapshot.tables
    .filter(
      (table) =>
        table.bytes > job.largeTableBytes &&
        !table.isPartitioned &&
        !table.extended &&
        !leftOut.has(table) &&
        canBeNamed(table, snapshot.encoding),
    )
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, MAX_LARGE)
  const folder = `databases/${folderOf(name)}`
  await request.begins(folder)
  const common = [
    '--format=custom',
    '--compress=0',
    '--no-password',
    `--lock-wait-timeout=${LOCK_WAIT_MS}`,
    `--snapshot=${snapshot.id}`,
  ]
  const without = [...leftOut, ...large].map(({ text }) => `--exclude-table-data=${text}`)
  const archive: DumpFile = {
    path: `${folder}/database.dump`,
    program: 'pg_dump',
    args: [...common, ...without],
    bytes: 0,
  }
  const tables = large.map((table, index) => ({
    table: table.text,
    path: `${folder}/table-${index + 1}.dump`,
    program: 'pg_dump' as const,
    args: [...common, '--data-only', '--strict-names', `--table=${table.text}`],
    bytes: 0,
  }))
  const files = [archive, ...tables]
  let isOver = false
  const looking = job.fingerprint
    ? lookAt(client, name, {
        leftMs: () => (isOver ? 0 : request.leftMs()),
        maxCounts: countsEach(server.databases.length),
        tables: null,
        isLeftOut: (table) => leftOutNames.has(table.name),
      })
    : Promise.resolve(null)
  // Rejects only with a broken connection. A program that had not taken the snapshot by then fails, and the backup with
  // it; those that had read on from it, and the restore says that there is nothing to compare with.
  const fingerprint = looking.catch(() => null)
  try {
    await dumpFiles({ ...dumping, environment: { ...dumping.environment, PGDATABASE: name } }, files)
  } finally {
    isOver = true
    await fingerprint
  }
  const names = [...leftOutNames].sort()
  return {
    database: {
      name,
      encoding: snapshot.encoding,
      snapshotTime: snapshot.time,
      archive: archive.path,
      tables: tables.map(({ table, path }) => ({ table, archive: path })),
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      leftOut: names.slice(0, MAX_LEFT_OUT_NAMED),
      leftOutCount: names.length,
    },
    fingerprint: await fingerprint,
    missed: [...leftOut]
      .filter((table) => isMissedOnStandby(job, server, table))
      .map((table) => ({
        path: `${name}: ${table.text}`,
        reason: 'unsupported',
        detail: `${table.text} of ${name} is unlogged, and a standby has none of its rows. Back up the primary, or write unlogged: false.`,
      })),
  }
}

function chooseLeftOut(job: DumpJob, server: ServerOfDumps, { tables, encoding }: Snapshot): Set<DumpTable> {
  const excluded = withDescendants(tables, (table) => job.isExcluded.some((matches) => matches(table)))
  for (const table of tables) if (table.unlogged && (!job.unlogged || server.standby)) excluded.add(table)
  for (const table of excluded) if (table.isPartitioned) excluded.delete(table)
  const unnamed = [...excluded].find((table) => !canBeNamed(table, encoding))
  if (unnamed !== undefined) {
    throw new RegainError(
      'source-unsuitable',
      `The rows of ${unnamed.text} can't be left out: in a database of encoding ${encoding} pg_dump takes no such name. Nothing was stored.`,
      { hint: 'Dump it with the rest, or leave the whole database out with databases:.' },
    )
  }
  if (excluded.size <= MAX_LEFT_OUT) return excluded
  throw new RegainError(
    'source-unsuitable',
    `Rows of ${excluded.size} tables were to be left out; no more than ${MAX_LEFT_OUT} in a database can be. Nothing was stored.`,
    { hint: 'Leave out fewer with exclude:, or the whole database with databases:.' },
  )
}

/** Arguments are UTF-8, and pg_dump takes them for names in the encoding of the database. */
function canBeNamed({ text }: DumpTable, encoding: string): boolean {
  if (/^[\x20-\x7e]*$/.test(text)) return true
  return (encoding === 'UTF8' || encoding === 'SQL_ASCII') && !text.includes('\ufffd')
}

function isMissedOnStandby(job: DumpJob, server: ServerOfDumps, table: DumpTable): boolean {
  return server.standby && job.unlogged && table.unlogged && !job.isExcluded.some((matches) => matches(table))
}

/** In the very snapshot of the dump, whose transaction it must not spoil. */
async function lookAt(
  client: pg.Client,
  name: string,
  request: Parameters<typeof readDatabase>[2],
): Promise<DatabaseFingerprint> {
  await client.query('savepoint regain_fingerprint')
  try {
    return await readDatabase(client, name, request)
  } catch (error) {
    if (!/^[0-9A-Z]{5}$/.test((error as { code?: string }).code ?? '')) throw error
    await client.query('rollback to savepoint regain_fingerprint')
    const problem = (error as Error).message
    return { name, problem, schema: '', tables: 0, largeObjects: 0, counts: [], others: { tables: 0, rows: 0 } }
  }
}
