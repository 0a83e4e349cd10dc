import { chmod, cp, lchown, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { findPostgres, type PostgresBinaries } from '../../src/sources/postgres/server/binaries.ts'
import { initDatabase } from '../../src/sources/postgres/server/init.ts'
import {
  type FoundServer,
  findRunningServer,
  stopRunningServer,
} from '../../src/sources/postgres/server/running-server.ts'
import { type PostgresServer, startServer } from '../../src/sources/postgres/server/server.ts'
import { restoreUser } from '../../src/sources/postgres/server/server-user.ts'

/** What ends when a test does, or a suite: a TestContext is one. */
export interface TestScope {
  readonly signal: AbortSignal
  after(end: () => unknown): void
}

/** Of a whole file, or of the suite it is called in: what is started in it ends after the last test, servers before the folders that they are in. */
export function suiteScope(): TestScope {
  const ends: (() => unknown)[] = []
  after(async () => {
    for (const end of ends.reverse()) await end()
  })
  return { signal: new AbortController().signal, after: (end) => void ends.push(end) }
}

/** Real PostgreSQL servers for tests: a data directory in a temporary folder, stopped and removed when the test ends. */
export interface TestPostgres {
  readonly major: number
  readonly binaries: PostgresBinaries
  readonly directory: string
  /** Changes when the server is started again. */
  server(): PostgresServer
  /** URL over TCP for role postgres. */
  url(database?: string): string
  /** Runs SQL as role postgres on a connection of its own. */
  query<Row extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<Row[]>
  /** A connection that the test keeps; closed at its end. */
  connect(database?: string): Promise<pg.Client>
  /** SIGKILL, as a power cut would. */
  crash(): Promise<void>
  stop(): Promise<void>
  /** Makes a copied data directory belong to the user who runs servers. */
  giveToServer(): Promise<void>
  /** Takes over a server that something else started on this directory: by the pid file. */
  adopt(): Promise<void>
  /** Again on the same data directory and port. */
  start(settings?: Record<string, string>): Promise<void>
}

export interface TestPostgresOptions {
  major?: number
  settings?: Record<string, string>
  password?: string
  dataChecksums?: boolean
  walSegmentMegabytes?: number
}

/** Binaries of a major version: test/servers (13, 14, 16, 17), Debian (15), or the project's own (18). */
export function testBinaries(major: number): Promise<PostgresBinaries> {
  const installed = new URL(`../servers/node_modules/postgres-${major}-${process.arch}/native/bin`, import.meta.url)
  return findPostgres(major, { directories: [fileURLToPath(installed)], path: process.env.PATH ?? '' })
}

/** A folder that is removed when the test ends. Others may pass through it: servers do not run as root. */
export async function temporaryDirectory(t: TestScope, prefix = 'regain-test-'): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), prefix))
  await chmod(directory, 0o755)
  t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

const FAST = {
  fsync: 'off',
  max_wal_senders: '10',
  max_replication_slots: '10',
  wal_level: 'replica',
  shared_buffers: '32MB',
}

/** A new cluster, started. */
export async function startPostgres(t: TestScope, options: TestPostgresOptions = {}): Promise<TestPostgres> {
  const parent = await temporaryDirectory(t)
  const directory = join(parent, 'data')
  const binaries = await testBinaries(options.major ?? 18)
  await initDatabase({
    binaries,
    directory,
    settings: { ...FAST, ...options.settings },
    signal: t.signal,
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(options.dataChecksums === undefined ? {} : { dataChecksums: options.dataChecksums }),
    ...(options.walSegmentMegabytes === undefined ? {} : { walSegmentMegabytes: options.walSegmentMegabytes }),
  })
  const postgres = testPostgres(t, binaries, directory, options.password)
  await postgres.start()
  return postgres
}

/** A streaming standby of `primary`, from a copy of its files. */
export async function startStandby(t: TestScope, primary: TestPostgres): Promise<TestPostgres> {
  const directory = join(await temporaryDirectory(t), 'standby')
  const port = primary.server().port
  await primary.query(`select pg_create_physical_replication_slot('standby', true)`)
  await primary.stop()
  await cp(primary.directory, directory, { recursive: true, preserveTimestamps: true })
  await primary.start()
  // A base backup has no slots either: they would keep log for ever.
  await rm(join(directory, 'pg_replslot', 'standby'), { recursive: true })
  await writeFile(join(directory, 'standby.signal'), '')
  await writeFile(
    join(directory, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=127.0.0.1 port=${port} user=postgres application_name=standby'\nprimary_slot_name = 'standby'\n`,
  )
  const standby = testPostgres(t, primary.binaries, directory)
  await standby.giveToServer()
  await standby.start()
  return standby
}

/** A tablespace `fast` in a folder of its own, which is resolved with. */
export async function makeTablespace(t: TestScope, postgres: TestPostgres, folder = 'disk'): Promise<string> {
  const disk = testPostgres(t, postgres.binaries, join(await temporaryDirectory(t), folder))
  await mkdir(disk.directory)
  await disk.giveToServer()
  await postgres.query(`create tablespace fast location '${disk.directory}'`)
  return disk.directory
}

/** A data directory that exists (restored, copied): not started yet. */
export function testPostgres(
  t: TestScope,
  binaries: PostgresBinaries,
  directory: string,
  password?: string,
): TestPostgres {
  let server: PostgresServer | null = null
  let adopted: FoundServer | null = null
  const clients: pg.Client[] = []
  // After hooks run in order: connections first, so that the server's stop does not break them.
  t.after(async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
    await server?.stop('immediate')
    if (adopted) await stopRunningServer(adopted)
  })
  const running = (): PostgresServer => {
    if (!server) throw new Error('the server of this test was not started')
    return server
  }
  const url = (database = 'postgres'): string => {
    const plain = `postgres://postgres@127.0.0.1:${(adopted ?? running()).port}/${database}`
    return password === undefined ? plain : plain.replace('postgres@', `postgres:${encodeURIComponent(password)}@`)
  }
  const connect = async (database?: string): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: url(database) })
    // A crashed server ends connections that are idle: the test sees that on its next query.
    client.on('error', () => undefined)
    clients.push(client)
    await client.connect()
    return client
  }
  return {
    major: binaries.major,
    binaries,
    directory,
    server: running,
    url,
    connect,
    async query<Row extends pg.QueryResultRow>(sql: string, values: unknown[] = []) {
      const client = new pg.Client({ connectionString: url() })
      await client.connect()
      try {
        const result = await client.query<Row>(sql, values)
        return result.rows
      } finally {
        await client.end()
      }
    },
    crash: () => running().crash(),
    stop: () => running().stop(),
    async giveToServer() {
      const user = await restoreUser(directory)
      if (!user) return
      for (const name of ['', ...(await readdir(directory, { recursive: true }))])
        await lchown(join(directory, name), user.uid, user.gid)
    },
    async adopt() {
      adopted = await findRunningServer(directory)
      if (!adopted) throw new Error(`no server runs on ${directory}`)
    },
    async start(settings = {}) {
      const port = server?.port
      await server?.stop('immediate')
      server = await startServer({ binaries, directory, settings, signal: t.signal, ...(port ? { port } : {}) })
    },
  }
}
