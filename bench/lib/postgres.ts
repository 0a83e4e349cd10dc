import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { type Command, execute, quote } from './run.ts'
import type { Setting } from './setting.ts'

/** PostgreSQL 17 in a tree of its own, entered by chroot, with data made by pgbench. Needs root. */
export interface BenchServer {
  port: number
  /** Of the trusted superuser, over TCP. */
  url: string
  /** A directory that the server's user owns, as seen from outside of the tree. */
  outside(name: string): string
  /** The same directory as seen from inside. */
  inside(name: string): string
  /** A command of the tree, run by the server's user. */
  command(...argv: string[]): Command
  /** pgBackRest as a good administrator would set it up for two processors. */
  pgBackRest(...args: string[]): Command
  /** A pgBackRest repository made anew. */
  resetPgBackRest(): Promise<void>
  databaseBytes: number
}

const BIN = '/usr/lib/postgresql/17/bin'
/** pgbench's scale 1 is 15 MB of tables. */
const BYTES_PER_SCALE = 15e6

export async function startBenchServer(setting: Setting, gigabytes: number): Promise<BenchServer> {
  const { pgRoot } = setting
  if (pgRoot === null) {
    throw new Error(
      'This benchmark needs a tree with PostgreSQL 17 and pgBackRest: --pgroot DIR or PGROOT. See --help.',
    )
  }
  const home = `/var/lib/regain-bench-${process.pid}`
  const outside = (name: string) => join(pgRoot, home, name)
  const inside = (name: string) => join(home, name)
  const command = (...argv: string[]): Command => ({
    argv: ['chroot', '--userspec=postgres:postgres', pgRoot, 'env', '-i', 'PATH=/usr/bin:/bin', 'LC_ALL=C', ...argv],
  })
  mkdirSync(join(pgRoot, home), { recursive: true })
  setting.undo.push(async () => rmSync(join(pgRoot, home), { recursive: true, force: true }))
  await execute({ argv: ['chroot', pgRoot, 'chown', 'postgres:postgres', home] })

  const port = await freePort()
  await execute(command(`${BIN}/initdb`, '-D', inside('data'), '--auth=trust', '-E', 'UTF8', '--locale=C', '--no-sync'))
  writeFileSync(
    outside('data/postgresql.auto.conf'),
    `port = ${port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '${home}'\nshared_buffers = '512MB'\n` +
      `max_wal_size = '4GB'\nsummarize_wal = on\nwal_level = replica\n`,
  )
  await execute(command(`${BIN}/pg_ctl`, '-D', inside('data'), '-l', inside('log'), '-w', 'start'))
  setting.undo.push(async () => {
    await execute(command(`${BIN}/pg_ctl`, '-D', inside('data'), '-m', 'immediate', '-w', 'stop'))
  })
  const scale = Math.max(1, Math.round((gigabytes * 1e9) / BYTES_PER_SCALE))
  await execute(command(`${BIN}/pgbench`, '-h', home, '-p', String(port), '-i', '-q', '-s', String(scale), 'postgres'))
  await execute(command(`${BIN}/psql`, '-h', home, '-p', String(port), '-c', 'checkpoint', 'postgres'))
  const size = await execute(
    command(
      `${BIN}/psql`,
      '-h',
      home,
      '-p',
      String(port),
      '-Atc',
      'select sum(pg_database_size(oid)) from pg_database',
      'postgres',
    ),
  )

  writeFileSync(
    outside('pgbackrest.conf'),
    `[global]
repo1-path=${inside('pgbackrest')}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=benchmark
repo1-bundle=y
repo1-block=y
process-max=2
compress-type=zst
compress-level=1
start-fast=y
archive-check=n
archive-copy=n
log-level-console=warn
log-level-file=off
lock-path=${inside('lock')}
[bench]
pg1-path=${inside('data')}
pg1-port=${port}
pg1-socket-path=${home}
`,
  )
  const pgBackRest = (...args: string[]) =>
    command('pgbackrest', `--config=${inside('pgbackrest.conf')}`, '--stanza=bench', ...args)
  return {
    port,
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    outside,
    inside,
    command,
    pgBackRest,
    async resetPgBackRest() {
      rmSync(outside('pgbackrest'), { recursive: true, force: true })
      await execute(pgBackRest('stanza-create', '--no-online'))
    },
    databaseBytes: Number(size.trim()),
  }
}

/** pg_basebackup's stream through zstd into a file: what the server alone allows. */
export function baseBackupToZstd(server: BenchServer, port: number): Command {
  const script =
    `set -euo pipefail; ${BIN}/pg_basebackup -h ${quote(server.inside(''))} -p ${port} -c fast -X none -Ft -D - ` +
    `| zstd -q -f -1 -T2 -o ${quote(server.inside('base.tar.zst'))}`
  return server.command('bash', '-c', script)
}

/** A fixed number of pgbench's transactions by `clients` at full speed. */
export function pgbench(server: BenchServer, clients: number, transactions: number): Command {
  return runPgbench(server, clients, ['-t', String(Math.ceil(transactions / clients))])
}

/** The same for a time. */
export function pgbenchFor(server: BenchServer, clients: number, seconds: number): Command {
  return runPgbench(server, clients, ['-T', String(seconds)])
}

function runPgbench(server: BenchServer, clients: number, extent: string[]): Command {
  const where = ['-h', server.inside(''), '-p', String(server.port)]
  return server.command(`${BIN}/pgbench`, ...where, '-n', '-c', String(clients), '-j', '2', ...extent, 'postgres')
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => (address !== null && typeof address === 'object' ? resolve(address.port) : reject(new Error())))
    })
  })
}
