import type pg from 'pg'
import { isRegainError, RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Missed } from '../../model.ts'
import type { BackupOptions, PointWriter, SourceSummary, TenantPoints } from '../contract.ts'
import { chooseServer } from '../postgres/protocol/choose-server.ts'
import { withSql } from '../postgres/protocol/connection.ts'
import { type ConnectionConfig, describeConnection, type ServerUrl } from '../postgres/protocol/connection-url.ts'
import { readServerFacts } from '../postgres/server/server-facts.ts'
import { nameOf, type TenantDescription } from './description.ts'
import { type ExportOf, exportTenant } from './export-tenant.ts'
import { from, isTenant } from './queries.ts'
import type { TenantRules } from './rules.ts'
import { holdTenants, listTenants, settle, type TenantSnapshot } from './session.ts'

export interface TenantsJob {
  servers: ServerUrl
  rules: TenantRules
  /** The source stands for one tenant alone. */
  isOne: boolean
}

export const ROSTER_PATH = 'tenants.json'

/** What the point of all tenants holds beside its name: no tenant's name, which goes when its own key is destroyed. */
export interface Roster {
  regain: 'tenants'
  format: 1
  at: string
  tenants: { id: string; point: string; rows: number; bytes: number }[]
  /** For each table with tenants' rows: all there are, and those of nobody. Each row is of one tenant at most. */
  tables: { table: string; rows: number; ofNobody: number }[]
}

/** All tenants, or the one that is asked for, of one moment. */
export async function backupTenants(
  job: TenantsJob,
  writer: PointWriter,
  options: BackupOptions,
): Promise<SourceSummary> {
  const { signal, warn } = options
  throwIfInterrupted(signal)
  if (options.kind === 'incremental')
    warn('Tenants are read whole each time; of what they have, only what is new is stored.')
  const config = await chooseServer(job.servers, signal)
  const { version } = await readServerFacts(config, signal)
  return withSql(config, signal, async (client) => {
    const encoding = await settle(client)
    const snapshot = await holdTenants(client, job.rules)
    const of = { client, snapshot, rules: job.rules, version, database: config.database, encoding }
    return job.isOne ? backupOne(of, config, writer, options) : backupAll(of, config, writer, options)
  })
}

type Of = Omit<ExportOf, 'tenant'>

async function backupOne(
  of: Of,
  config: ConnectionConfig,
  writer: PointWriter,
  options: BackupOptions,
): Promise<SourceSummary> {
  const known = writer.base?.point.positions.tenant
  const tenant = options.tenant ?? (typeof known === 'string' ? known : undefined)
  if (tenant === undefined)
    throw new RegainError('usage', 'Which tenant this is has not been said, and it has no point yet that says it.', {
      hint: 'Name it: regain backup SERVICE/SOURCE --tenant NAME',
    })
  if (!(await isThere(of.client, of.snapshot, tenant)))
    throw new RegainError(
      'source-unsuitable',
      `${of.snapshot.plan.root.table.text} of ${describeConnection(config)} has no such tenant. Nothing was backed up.`,
      { hint: 'Write it as the database does; letter for letter.' },
    )
  let bytesDone = 0
  const description = await exportTenant({ ...of, tenant }, writer, options, (bytes) => {
    bytesDone += bytes
    options.progress({ phase: 'tenant', bytesDone })
  })
  tellCrossings(description, options.warn)
  return summaryOf(description, config)
}

async function backupAll(
  of: Of,
  config: ConnectionConfig,
  writer: PointWriter,
  options: BackupOptions,
): Promise<SourceSummary> {
  const { tenants: points, signal, warn } = options
  if (points === undefined) throw new RegainError('internal', 'There is no place for the points of tenants.')
  const tenants = await listTenants(of.client, of.snapshot.plan)
  if (tenants.length === 0) warn(`${of.snapshot.plan.root.table.text} has no tenants.`)
  const taken: Roster['tenants'] = []
  const missed: Missed[] = []
  const sums = new Map<string, number>()
  const crossings = new Map<string, number>()
  let bytesDone = 0
  for (const tenant of tenants) {
    throwIfInterrupted(signal)
    const outcome = await takeOne(points, tenant, async (own, ownOptions) => {
      const description = await exportTenant({ ...of, tenant }, own, ownOptions, (bytes) => {
        bytesDone += bytes
        options.progress({ phase: 'tenants', bytesDone, filesDone: taken.length, filesTotal: tenants.length })
      })
      for (const table of description.tables)
        if (table.role === 'owned') sums.set(nameOf(table), (sums.get(nameOf(table)) ?? 0) + table.rows)
      for (const { table, key, rows } of description.crossings)
        crossings.set(`${table} (${key})`, (crossings.get(`${table} (${key})`) ?? 0) + rows)
      return { summary: summaryOf(description, config), rows: rowsOf(description) }
    })
    if ('missed' in outcome) {
      missed.push(outcome.missed)
      warn(outcome.missed.detail)
    } else taken.push(outcome)
  }
  for (const [key, rows] of crossings)
    warn(
      `${rows} rows of tenants refer by ${key} to rows of other tenants, which are not in their points. If those belong to nobody, name their table under shared:.`,
    )
  const tables = await countAll(of, sums, missed.length === 0, warn)
  const { time: at } = of.snapshot
  const roster: Roster = { regain: 'tenants', format: 1, at, tenants: taken, tables }
  await writeRoster(writer, roster)
  return {
    kind: 'full',
    root: describeConnection(config),
    positions: { at, version: of.version, database: of.database, tenants: taken.length },
    sourceBytes: bytesDone,
    missed,
  }
}

type Taken = Roster['tenants'][number]

/** What goes wrong with its own repository is this tenant's alone; what goes wrong while reading ends all. */
async function takeOne(
  points: TenantPoints,
  tenant: string,
  fill: (
    writer: PointWriter,
    options: Pick<BackupOptions, 'signal'>,
  ) => Promise<{ summary: SourceSummary; rows: number }>,
): Promise<Taken | { missed: Missed }> {
  let failure: { error: unknown } | null = null
  let rows = 0
  try {
    const { id, point, bytes } = await points.take(tenant, async (writer, options) => {
      try {
        const filled = await fill(writer, options)
        rows = filled.rows
        return filled.summary
      } catch (error) {
        failure = { error }
        throw error
      }
    })
    return { id, point, rows, bytes }
  } catch (error) {
    if (failure !== null || !isRegainError(error) || error.code === 'interrupted') throw error
    const id = points.idOf(tenant)
    return { missed: { path: id, reason: 'unsupported', detail: `The tenant ${id} has no point: ${error.message}` } }
  }
}

/** Rows that no tenant has are told: each row of these tables is in one point, or counted here. */
async function countAll(
  { client, snapshot }: Of,
  sums: ReadonlyMap<string, number>,
  isWhole: boolean,
  warn: (message: string) => void,
): Promise<Roster['tables']> {
  const tables: Roster['tables'] = []
  for (const { table } of snapshot.plan.owned) {
    const { rows } = await client.query<{ rows: number }>(`select count(*)::int8::float8 as rows from ${from(table)}`)
    const all = rows[0]!.rows
    const ofNobody = all - (sums.get(nameOf(table)) ?? 0)
    tables.push({ table: table.text, rows: all, ofNobody: isWhole ? ofNobody : 0 })
    if (isWhole && ofNobody > 0)
      warn(`${ofNobody} rows of ${table.text} are of no tenant, so they are in no tenant's point.`)
  }
  return tables
}

async function writeRoster(writer: PointWriter, roster: Roster): Promise<void> {
  const common = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mtime: `${Date.parse(roster.at)}000000` }
  await writer.add({ path: '', type: 'directory', mode: 0o700, ...common })
  const stream = await writer.addStream({ path: ROSTER_PATH, type: 'file', mode: 0o600, ...common }, 'dump')
  await stream.write(Buffer.from(`${JSON.stringify(roster, null, 1)}\n`))
  await stream.end()
}

function summaryOf(description: TenantDescription, config: ConnectionConfig): SourceSummary {
  const { tenant, at, version, database, tables } = description
  return {
    kind: 'full',
    root: describeConnection(config),
    positions: { tenant, at, version, database, rows: rowsOf(description) },
    sourceBytes: tables.reduce((sum, { bytes }) => sum + bytes, 0),
    missed: [],
  }
}

function rowsOf({ tables }: TenantDescription): number {
  return tables.reduce((sum, { rows }) => sum + rows, 0)
}

function tellCrossings({ crossings }: TenantDescription, warn: (message: string) => void): void {
  for (const { table, key, to, rows } of crossings)
    warn(
      `${rows} rows of ${table} refer by ${key} to rows of ${to} that are another tenant's, which are not in the point. If ${to} belongs to nobody, name it under shared:.`,
    )
}

/** By its text as well: a cast may make two texts one value. */
async function isThere(client: pg.Client, { plan }: TenantSnapshot, tenant: string): Promise<boolean> {
  const { table, by } = plan.root
  const tenants = await client.query<{ tenant: string }>(
    `select pg_catalog.min(a."${by.column.name.replaceAll('"', '""')}"::text collate "C") as tenant from ${from(table)} a where ${isTenant('a', by.column, tenant, by.column)}`,
  )
  return tenants.rows[0]?.tenant === tenant
}
