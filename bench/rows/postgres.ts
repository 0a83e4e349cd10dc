import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { openCatalog } from '../../src/catalog/catalog.ts'
import type { Contest, Contestant } from '../lib/contest.ts'
import { type BenchServer, baseBackupToZstd, pgbench, startBenchServer } from '../lib/postgres.ts'
import { execute, measure } from '../lib/run.ts'
import { diskUsage, type RegainPlace, regainPlace, type Setting } from '../lib/setting.ts'

const GIGABYTES = 2
const CLIENTS = 8
const TRANSACTIONS = 200_000

/** Full backup of a cluster into an empty repository. */
export async function pgFull(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : GIGABYTES)
  const regain = regainPlace(setting, 'pg-full', `{ type: postgres, url: "${server.url}", log: none }`)
  const contestants: Contestant[] = [
    {
      name: 'regain',
      prepare: regain.reset,
      run: () => measure({ argv: regain.argv('backup', 'bench', '--full') }),
      left: async () => ({ repository: await diskUsage(regain.repository) }),
    },
    {
      name: await pgBackRestName(server),
      prepare: server.resetPgBackRest,
      run: () => measure(server.pgBackRest('--type=full', 'backup')),
      left: async () => ({ repository: await diskUsage(server.outside('pgbackrest')) }),
    },
    {
      name: 'pg_basebackup | zstd -1 -T2',
      run: () => measure(baseBackupToZstd(server, server.port)),
      left: async () => ({ repository: await diskUsage(server.outside('base.tar.zst')) }),
      clear: async () => rmSync(server.outside('base.tar.zst'), { force: true }),
    },
  ]
  return [
    {
      name: 'pg-full',
      notes: [`Full backup of PostgreSQL 17 with ${describe(server)}.`, PGBACKREST_SETTINGS],
      contestants,
      bars: { pgBackRest: 1.5 },
    },
  ]
}

/** What a backup costs when one block in a hundred has changed since the last one. */
export async function pgIncremental(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : GIGABYTES)
  const regain = regainPlace(setting, 'pg-incremental', `{ type: postgres, url: "${server.url}", log: none }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench', '--full') })
  await server.resetPgBackRest()
  await execute(server.pgBackRest('--type=full', 'backup'))
  const contestants: Contestant[] = [
    {
      name: 'regain',
      run: () => measure({ argv: regain.argv('backup', 'bench') }),
      left: async () => ({ repository: await diskUsage(regain.repository) }),
    },
    {
      name: await pgBackRestName(server),
      run: () => measure(server.pgBackRest('--type=incr', 'backup')),
      left: async () => ({ repository: await diskUsage(server.outside('pgbackrest')) }),
    },
  ]
  return [
    {
      name: 'pg-incremental',
      notes: [
        `Incremental backup of PostgreSQL 17 with ${describe(server)}, a row in one block of a hundred changed before each round.`,
        `${PGBACKREST_SETTINGS} Regain's point is a whole one each time.`,
      ],
      contestants,
      beforeRound: (round) => changeBlocks(server, round),
      bars: { pgBackRest: 2 },
    },
  ]
}

/** A row in one block of a hundred, each round another one. pgbench_accounts has 61 rows in a block. */
export async function changeBlocks(server: BenchServer, round: number): Promise<void> {
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  try {
    await client.query('update pgbench_accounts set abalance = abalance + 1 where aid % 6100 = $1', [round * 61 + 7])
    await client.query('vacuum pgbench_accounts')
    await client.query('checkpoint')
  } finally {
    await client.end()
  }
}

/** What following the log costs a busy server, and how far the repository is behind it. */
export async function pgLog(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : 0.5)
  const regain = regainPlace(setting, 'pg-log', `{ type: postgres, url: "${server.url}", log: continuous }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench') })
  const transactions = setting.isTrial ? 5_000 : TRANSACTIONS
  let daemon: FollowingDaemon | null = null
  const contestants: Contestant[] = [
    {
      name: 'regain serve following',
      async prepare() {
        daemon = await startFollowing(regain, server)
      },
      async run() {
        daemon?.watch()
        return measure(pgbench(server, CLIENTS, transactions))
      },
      left: async () => ({ 'durable position behind, at most': daemon?.worst() ?? '' }),
      async clear() {
        await daemon?.end()
      },
    },
    { name: 'alone', run: () => measure(pgbench(server, CLIENTS, transactions)) },
  ]
  return [
    {
      name: 'pg-log',
      notes: [
        `pgbench with ${CLIENTS} clients at full speed, ${transactions.toLocaleString('en-US')} transactions on ${describe(server)}.`,
        '"peer / ours" is the share of the throughput that is kept while the log is followed: 0.90 is a loss of 10 %.',
      ],
      contestants,
      bars: { alone: 0.9 },
    },
  ]
}

export const PGBACKREST_SETTINGS =
  'pgBackRest: process-max=2, zst level 1, AES-256, bundles and block incremental on, no WAL.'

interface FollowingDaemon {
  /** Begins to note how far the repository is behind. */
  watch(): void
  worst(): string
  end(): Promise<void>
}

async function startFollowing(regain: RegainPlace, server: BenchServer): Promise<FollowingDaemon> {
  const [program = '', ...args] = regain.argv('serve')
  const child = spawn(program, args, { stdio: 'ignore' })
  const ambient = { now: Date.now, randomBytes, log: () => {} }
  const catalog = openCatalog({ directory: regain.state, ambient, pid: process.pid })
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  const row = () => catalog.followers()[0]
  const flushed = async () => {
    const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
    return position(rows[0]?.lsn ?? '0/0')
  }
  // What was written before it began is not what it is measured by.
  const before = await flushed()
  for (let i = 0; row()?.state !== 'streaming' || position(row()?.durable ?? '0/0') < before; i++) {
    if (child.exitCode !== null || i > 600) throw new Error('regain serve does not follow the log.')
    await sleep(100)
  }
  /** When the server had written how far: what the repository has of it, it has had written by then. */
  const written: { at: number; position: bigint }[] = []
  let worstBytes = 0
  let worstMs = 0
  let isWatching = false
  let watching = Promise.resolve()
  const look = async () => {
    const end = await flushed()
    const at = Date.now()
    written.push({ at, position: end })
    const durable = position(row()?.durable ?? '0/0')
    worstBytes = Math.max(worstBytes, Number(end - durable))
    const oldest = written.find((sample) => sample.position > durable)
    if (oldest !== undefined) worstMs = Math.max(worstMs, at - oldest.at)
  }
  return {
    watch() {
      isWatching = true
      watching = (async () => {
        while (isWatching) {
          await look()
          await sleep(200)
        }
      })()
    },
    worst: () => `${(worstMs / 1000).toFixed(1)} s, ${(worstBytes / 1e6).toFixed(0)} MB`,
    async end() {
      isWatching = false
      await watching
      await client.end()
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      await ended
      catalog.close()
    },
  }
}

/** PostgreSQL's pg_lsn: two hexadecimal halves of 64 bits. */
function position(lsn: string): bigint {
  const [high = '0', low = '0'] = lsn.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

export async function pgBackRestName(server: BenchServer): Promise<string> {
  return (await execute(server.command('pgbackrest', 'version'))).trim()
}

export function describe(server: BenchServer): string {
  return `${(server.databaseBytes / 1e9).toFixed(2)} GB of pgbench tables`
}
