import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Point, PointKind } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import type { RestoreMoment, RestoreSummary } from '../../src/sources/contract.ts'
import { createLogFollower } from '../../src/sources/postgres/log/follower.ts'
import type { RecoveryPlan } from '../../src/sources/postgres/recovery/plan.ts'
import { createPostgresSource, type PostgresSource } from '../../src/sources/postgres/source.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { type Following, follow } from './following.ts'
import { type TestPostgres, temporaryDirectory, testBinaries, testPostgres } from './postgres.ts'
import { testAmbient } from './postgres-recorders.ts'
import { createTestRepository } from './repository.ts'

const SLOT = 'regain_test'

/** A repository on disk that protects test servers as one source, through the real engine. */
export interface Protection {
  repository: Repository
  storage: Storage
  warnings: string[]
  source(postgres: TestPostgres, fetchCommand?: string[], url?: string): PostgresSource
  /** Default: full. */
  takePoint(postgres: TestPostgres, kind?: PointKind, url?: string): Promise<Point>
  /** With `url` what that names is followed, and `postgres` tells how far it should be. */
  follow(postgres: TestPostgres, tailMs?: number, url?: string): Following
  plan(at: RestoreMoment): Promise<RecoveryPlan>
  /** As `regain restore`: chooses the point, restores it into `directory`. */
  restore(
    postgres: TestPostgres,
    at: RestoreMoment,
    directory: string,
    options?: RestoreOptions,
  ): Promise<RestoreSummary>
  /** Restores into a new folder with a server started on it, and stops that when the test ends. */
  recover(postgres: TestPostgres, at: RestoreMoment): Promise<{ postgres: TestPostgres; summary: RestoreSummary }>
}

export interface RestoreOptions {
  start?: boolean
  fetchCommand?: string[]
  /** Over what is in the directory. */
  inPlace?: boolean
  tablespaces?: Record<string, string>
  onlyDatabases?: string[]
}

/** `wrap`: what comes between the repository and its disk. */
export async function protect(t: TestContext, wrap = (storage: Storage): Storage => storage): Promise<Protection> {
  const folder = await temporaryDirectory(t)
  const storage = wrap(await createLocalStorage(join(folder, 'repository')))
  const { repository } = await createTestRepository(storage, folder)
  t.after(() => repository.close())
  const warnings: string[] = []
  const log = repository.log('db')
  const options = {
    signal: t.signal,
    progress: () => undefined,
    warn: (message: string) => void warnings.push(message),
  }
  const never = ['false']

  const source = (postgres: TestPostgres, fetchCommand = never, url = postgres.url()): PostgresSource =>
    createPostgresSource(
      { url, log: 'continuous', slot: SLOT },
      { log, ambient: testAmbient(), fetchCommand, search: { directories: [postgres.binaries.directory] } },
    )

  const plan = async (at: RestoreMoment): Promise<RecoveryPlan> => {
    const points = await repository.points({ source: 'db' })
    return createPostgresSource(
      { url: 'postgres://nobody@127.0.0.1:1/', log: 'continuous', slot: SLOT },
      { log, ambient: testAmbient(), fetchCommand: never, search: {} },
    ).plan(points, at, t.signal)
  }

  const restore: Protection['restore'] = async (postgres, at, directory, request = {}) => {
    const { start = false, fetchCommand, inPlace, tablespaces, onlyDatabases } = request
    const { point } = await plan(at)
    const reader = await repository.openPoint(point, { signal: t.signal })
    try {
      const target = {
        directory,
        at,
        path: null,
        start,
        ...(tablespaces ? { tablespaces } : {}),
        ...(onlyDatabases ? { onlyDatabases } : {}),
        ...(inPlace ? { inPlace: { resumes: false, changing: () => undefined } } : {}),
      }
      return await source(postgres, fetchCommand).restore(reader, target, options)
    } finally {
      await reader.close()
    }
  }

  return {
    repository,
    storage,
    warnings,
    source,
    plan,
    restore,
    async takePoint(postgres, kind = 'full', url = postgres.url()) {
      const driver = source(postgres, never, url)
      const session = await repository.startPoint({
        source: 'db',
        sourceType: 'postgres',
        kind,
        tool: 'test',
        signal: t.signal,
        progress: () => undefined,
        unordered: true,
      })
      try {
        return await session.commit(await driver.backup(session, { ...options, kind }))
      } catch (error) {
        await session.discard()
        throw error
      }
    },
    follow(postgres, tailMs = 200, url = postgres.url()) {
      const follower = createLogFollower({ url, slot: SLOT, tailMs }, log, testAmbient())
      return follow(t, postgres, (options) => follower.run(options), warnings)
    },
    async recover(postgres, at) {
      const directory = join(await temporaryDirectory(t), 'restored')
      const summary = await restore(postgres, at, directory, { start: true })
      const restored = testPostgres(t, await testBinaries(postgres.major), directory)
      await restored.adopt()
      return { postgres: restored, summary }
    },
  }
}

/** A row a transaction, each with what the server said of it when it was acknowledged. */
export interface WrittenRow {
  n: number
  xid: string
  /** Position behind the commit. */
  lsn: string
  /** The server's clock after the commit, and so before the next one. */
  at: string
}

export async function writeRows(postgres: TestPostgres, from: number, to: number): Promise<WrittenRow[]> {
  const client = await postgres.connect()
  await client.query('create table if not exists events (n int primary key, text text)')
  const rows: WrittenRow[] = []
  for (let n = from; n <= to; n++) {
    const inserted = await client.query<{ xid: string }>(
      `insert into events values ($1, repeat('x', 1000)) returning xmin::text as xid`,
      [n],
    )
    const after = await client.query<{ lsn: string; at: string }>(
      `select pg_current_wal_insert_lsn()::text as lsn, to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
    )
    rows.push({ n, xid: inserted.rows[0]?.xid ?? '', lsn: after.rows[0]?.lsn ?? '', at: after.rows[0]?.at ?? '' })
  }
  return rows
}

/** The numbers of the rows that are there. */
export async function readRows(postgres: TestPostgres): Promise<number[]> {
  const rows = await postgres.query<{ n: number }>('select n from events order by n')
  return rows.map(({ n }) => n)
}
