import { join } from 'node:path'
import type pg from 'pg'
import { throwIfInterrupted } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { findPostgres } from '../sources/postgres/server/binaries.ts'
import { initDatabase } from '../sources/postgres/server/init.ts'
import { type PostgresServer, startServer } from '../sources/postgres/server/server.ts'
import { withClient } from './proofs.ts'
import { SHOP_LINKS, type ShopSize, type ShopTable, shopSize, shopTables } from './shop.ts'
import type { Stage } from './stage.ts'
import { startWriter, type Writer } from './writer.ts'

/** The shop, open for business. */
export interface OpenShop {
  server: PostgresServer
  /** Data directory. */
  data: string
  size: ShopSize
  databaseBytes: number
  rows: Record<string, number>
  password: string
  /** URL of the role that Regain connects as. */
  backupUrl: string
  /** URL of a server with this shop's roles, on another port. */
  urlAt(port: number): string
}

const MAJOR = 18
const DATABASE = 'shop'
const ROLE = 'shop'

/** While it is filled nobody can lose anything that could not be made again, so nothing is synced or logged. */
const FILLING: Record<string, string> = {
  fsync: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  summarize_wal: 'off',
  max_wal_size: '4GB',
  autovacuum: 'off',
  shared_buffers: '256MB',
  maintenance_work_mem: '128MB',
}

/** What a production server would have; the commit timestamps are for the proof alone. */
const BUSINESS: Record<string, string> = {
  wal_level: 'replica',
  track_commit_timestamp: 'on',
  summarize_wal: 'on',
  max_wal_size: '512MB',
  shared_buffers: '128MB',
}

/** Makes a PostgreSQL server with a shop of about `megabytes`, and starts it for business. */
export async function openShop(
  stage: Stage,
  megabytes: number,
  ambient: Ambient,
  signal: AbortSignal,
): Promise<OpenShop> {
  const data = join(stage.directory, 'database')
  const password = ambient.randomBytes(18).toString('hex')
  const backupPassword = ambient.randomBytes(18).toString('hex')
  const binaries = await findPostgres(MAJOR)
  await initDatabase({ binaries, directory: data, superuser: ROLE, password, settings: BUSINESS, signal })

  const size = shopSize(megabytes)
  const filling = await startServer({ binaries, directory: data, settings: FILLING, signal })
  const stopFilling = stage.later('stopping the database', () => filling.stop())
  const administration = withPassword(filling.url(ROLE, 'postgres'), password)
  await withClient(administration, async (client) => {
    await client.query(`create database ${DATABASE}`)
    // What regain init tells a person to run: REPLICATION reads the cluster, pg_monitor its settings.
    await client.query(`create role regain login replication password ${client.escapeLiteral(backupPassword)}`)
    await client.query('grant pg_monitor to regain')
  })
  const fillingUrl = withPassword(filling.url(ROLE, DATABASE), password)
  await fill(fillingUrl, size, signal)
  const facts = await measure(fillingUrl, size)
  await stopFilling()

  throwIfInterrupted(signal)
  const server = await startServer({ binaries, directory: data, signal })
  stage.later('stopping the database', () => server.stop('immediate'))
  const backupUrl = withPassword(server.url('regain', 'postgres'), backupPassword)
  const urlAt = (port: number) => `postgres://${ROLE}:${password}@127.0.0.1:${port}/${DATABASE}`
  return { server, data, size, ...facts, password, backupUrl, urlAt }
}

/** Customers begin to order. */
export async function openForCustomers(shop: OpenShop, stage: Stage, ambient: Ambient): Promise<Writer> {
  const writer = await startWriter(shop.urlAt(shop.server.port), shop.size, ambient)
  stage.later('sending the customers home', () => writer.stop())
  return writer
}

/** The accident. Resolves to the moment just before it by the server's clock, and to its commit's, in microseconds. */
export async function dropOrders(shop: OpenShop): Promise<{ beforeUs: bigint; droppedUs: bigint }> {
  return withClient(shop.urlAt(shop.server.port), async (client) => {
    const beforeUs = await microseconds(client, 'clock_timestamp()')
    await client.query('begin')
    await client.query('drop table orders cascade')
    const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::xid::text as xid')
    await client.query('commit')
    const droppedUs = await microseconds(client, 'pg_xact_commit_timestamp($1::text::xid)', [rows[0]?.xid])
    return { beforeUs, droppedUs }
  })
}

async function fill(url: string, size: ShopSize, signal: AbortSignal): Promise<void> {
  await Promise.all(shopTables(size).map((lane) => withClient(url, (client) => fillLane(client, lane, signal))))
  throwIfInterrupted(signal)
  await withClient(url, async (client) => {
    for (const link of SHOP_LINKS) await client.query(link)
  })
}

async function fillLane(client: pg.Client, lane: readonly ShopTable[], signal: AbortSignal): Promise<void> {
  for (const { name, sql } of lane) {
    throwIfInterrupted(signal)
    await client.query(`begin; ${sql} commit`)
    // Freezes the rows now, or reading them for the first time would write all pages again.
    await client.query(`vacuum (freeze, analyze) ${name}`)
  }
}

async function measure(url: string, size: ShopSize): Promise<Pick<OpenShop, 'databaseBytes' | 'rows'>> {
  return withClient(url, async (client) => {
    const database = await client.query<{ bytes: string }>('select pg_database_size(current_database())::text as bytes')
    const rows: Record<string, number> = {}
    for (const { name } of shopTables(size).flat()) {
      const counted = await client.query<{ count: string }>(`select count(*)::text as count from ${name}`)
      rows[name] = Number(counted.rows[0]?.count)
    }
    return { databaseBytes: Number(database.rows[0]?.bytes), rows }
  })
}

async function microseconds(client: pg.Client, expression: string, values: unknown[] = []): Promise<bigint> {
  const sql = `select (extract(epoch from ${expression}) * 1000000)::bigint::text as us`
  const { rows } = await client.query<{ us: string }>(sql, values)
  return BigInt(rows[0]?.us ?? '0')
}

function withPassword(url: string, password: string): string {
  const parsed = new URL(url)
  parsed.password = password
  return parsed.href
}
