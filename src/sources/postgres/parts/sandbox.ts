import { chmod, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isRegainError, RegainError } from '../../../errors.ts'
import type { Point } from '../../../model.ts'
import type { LogStore, PointReader, SourceOptions } from '../../contract.ts'
import { type Positions, positionsOf } from '../backup/positions.ts'
import { withSql } from '../protocol/connection.ts'
import { sqlStateOf } from '../protocol/connection-errors.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import { TablespaceGuard } from '../recovery/new-tablespaces.ts'
import type { RecoveryPlan } from '../recovery/plan.ts'
import { layOut } from '../recovery/restore.ts'
import { recover } from '../recovery/start-recovery.ts'
import { makePlaces, tablespacePlaces } from '../recovery/tablespaces.ts'
import type { PostgresBinaries } from '../server/binaries.ts'
import { prepareDataDirectory } from '../server/data-directory.ts'
import type { PostgresServer } from '../server/server.ts'
import { settingLine } from '../server/settings.ts'
import { harmlessSettings, isolatingWrapper, sandboxUser } from './isolation.ts'

/** A restored cluster that runs for as long as `use` does, that nobody else can reach and that reaches nobody. */
export interface Sandbox {
  /** As a superuser, over its Unix socket. */
  connection(database: string): ConnectionConfig
  /** RFC 3339 UTC. */
  reached: string
}

export interface SandboxRequest {
  reader: PointReader
  plan: RecoveryPlan
  store: LogStore
  binaries: PostgresBinaries
  /** Role of the configured URL: it need not be a superuser, but it was there. */
  user: string
  options: SourceOptions
}

/** Log is removed while it is replayed; this much of it may lie there at a time (max_wal_size, and what is fetched ahead). */
const LOG_BYTES = 1.5 * 1024 ** 3

/** Whole cluster, recovered to the moment of `plan`; stopped and removed whatever happens. */
export async function withSandbox<T>(request: SandboxRequest, use: (sandbox: Sandbox) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'regain-sandbox-'))
  try {
    return await runIn(directory, request, use)
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Where the sandbox would be, what it needs there at most, and what there is; rejects with `target-full` if that is less. */
export async function checkSandboxSpace(
  point: Point,
  logBytes: number,
): Promise<{ place: string; neededBytes: number; freeBytes: number }> {
  const place = tmpdir()
  const { bavail, bsize } = await statfs(place)
  const freeBytes = bavail * bsize
  const neededBytes = point.bytes.source + Math.min(logBytes, LOG_BYTES)
  if (freeBytes >= neededBytes) return { place, neededBytes, freeBytes }
  throw new RegainError(
    'target-full',
    `The whole cluster is restored for a moment to take the part out of it: that needs ${neededBytes.toLocaleString('en-US')} bytes in ${place}, where ${freeBytes.toLocaleString('en-US')} are free. Nothing was done.`,
    { hint: 'Name a folder with more space in the environment: TMPDIR=/folder regain restore …' },
  )
}

async function runIn<T>(directory: string, request: SandboxRequest, use: (sandbox: Sandbox) => Promise<T>): Promise<T> {
  const { reader, plan, options } = request
  const positions = positionsOf(reader.point)
  const user = await sandboxUser()
  // Its user passes through to what is its own.
  await chmod(directory, 0o711)
  const data = join(directory, 'data')
  const places = await tablespacePlaces(positions, { directory: data, chosen: {}, inPlace: false })
  await makePlaces(data, places)
  await layOut(reader, data, places, { ...options, durable: false })
  // Should our feeder be gone, there is nobody else to ask: recovery ends.
  await prepareDataDirectory({ directory: data, point: reader.point, places, plan, fetchCommand: ['false'], user })
  const { server, report } = await recoverApart(directory, data, positions, request, user)
  try {
    const superuser = await findSuperuser(server, request)
    return await use({
      connection: (database) => connectionTo(server, superuser, database),
      reached: report.lastTransaction ?? positions.stopTime,
    })
  } finally {
    // It is thrown away: nothing of it needs an orderly end.
    await server.stop('immediate')
  }
}

/** Root's sandbox is a user's who may touch nothing else, and fails there by itself. */
function guardOf(
  reader: PointReader,
  plan: RecoveryPlan,
  store: LogStore,
  { signal }: SourceOptions,
): TablespaceGuard | null {
  return process.getuid?.() === 0 ? null : new TablespaceGuard({ point: reader.point, plan }, store, signal)
}

async function recoverApart(
  directory: string,
  data: string,
  positions: Positions,
  { reader, plan, store, binaries, options }: SandboxRequest,
  user: Awaited<ReturnType<typeof sandboxUser>>,
): ReturnType<typeof recover> {
  const wrapper = await isolatingWrapper(user)
  const settings = {
    ...harmlessSettings(positions.major),
    ...(await writeConfiguration(directory, positions)),
  }
  const request = {
    binaries,
    directory: data,
    plan,
    store,
    guard: guardOf(reader, plan, store, options),
    user,
    options,
    wrapper,
  }
  try {
    return await recover({ ...request, settings })
  } catch (error) {
    const libraries = positions.settings.shared_preload_libraries ?? ''
    if (
      libraries === '' ||
      !isRegainError(error, 'precondition-failed') ||
      !/could not access file/.test(error.message)
    )
      throw error
    options.warn(
      `Not all libraries that the original loads at its start (${libraries}) are on this machine, so none is loaded. Where a table can't be read without, that is an error.`,
    )
    return recover({ ...request, settings: { ...settings, shared_preload_libraries: '' } })
  }
}

/**
 * Configuration of our own, so that neither included files nor certificates of the original's machine are asked for. Who
 * can open the socket, which only root and the server's user can, is let in as anybody.
 */
async function writeConfiguration(directory: string, positions: Positions): Promise<Record<string, string>> {
  const recorded = Object.entries(positions.settings).filter(([, value]) => value !== '')
  const files: [string, string, string][] = [
    ['config_file', 'postgresql.conf', recorded.map(([name, value]) => settingLine(name, value)).join('')],
    ['hba_file', 'pg_hba.conf', 'local all all trust\n'],
    ['ident_file', 'pg_ident.conf', ''],
  ]
  const settings: Record<string, string> = {}
  for (const [setting, name, text] of files) {
    const path = join(directory, name)
    await writeFile(path, text, { flag: 'wx' })
    // Whatever our umask is, the server's user must read it.
    await chmod(path, 0o644)
    settings[setting] = path
  }
  return settings
}

/** The first one may have been renamed, so its name is asked for. */
async function findSuperuser(server: PostgresServer, { user, options }: SandboxRequest): Promise<string> {
  for (const name of new Set([user, 'postgres'])) {
    try {
      return await withSql(connectionTo(server, name, 'postgres'), options.signal, async (client) => {
        const { rows } = await client.query<{ name: string }>(
          'select rolname as name from pg_catalog.pg_roles where rolsuper and rolcanlogin order by oid limit 1',
        )
        return rows[0]?.name ?? fail('It has no superuser that may log in.')
      })
    } catch (error) {
      // 28000: no such role, or one that may not log in.
      if (sqlStateOf(error) !== '28000') throw error
    }
  }
  return fail(`It has neither a role ${user} nor postgres that may log in.`)
}

function fail(reason: string): never {
  throw new RegainError('precondition-failed', `The restored cluster cannot be read: ${reason} Nothing was restored.`, {
    hint: 'Name a role that existed at that moment in the url of the source; or restore the whole cluster with --start.',
  })
}

function connectionTo(server: PostgresServer, user: string, database: string): ConnectionConfig {
  return {
    host: server.socketDirectory,
    port: server.port,
    user,
    database,
    tls: 'disable',
    channelBinding: false,
    connectTimeoutMs: 15_000,
  }
}
