import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Contest, Contestant } from '../lib/contest.ts'
import { pgbench, startBenchServer } from '../lib/postgres.ts'
import { type Command, execute, measure } from '../lib/run.ts'
import { regainPlace, type Setting } from '../lib/setting.ts'

const CLIENTS = 8
const TRANSACTIONS = 100_000

/** What backups cost a server that is busy on the same machine: full ones, each beginning when the last has ended. */
export async function pgLoad(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : 1)
  const regain = regainPlace(setting, 'pg-load', `{ type: postgres, url: "${server.url}", log: none }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench') })
  await server.resetPgBackRest()
  const transactions = setting.isTrial ? 5_000 : TRANSACTIONS
  const beside = (name: string, command: Command): Contestant => {
    let backups: Repeated | null = null
    return {
      name,
      prepare: async () => {
        backups = repeat(command)
      },
      run: () => measure(pgbench(server, CLIENTS, transactions)),
      left: async () => ({ 'backups meanwhile': String(backups?.done() ?? 0) }),
      clear: async () => backups?.end(),
    }
  }
  return [
    {
      name: 'pg-load',
      notes: [
        `pgbench with ${CLIENTS} clients at full speed, ${transactions.toLocaleString('en-US')} transactions on ${(server.databaseBytes / 1e9).toFixed(2)} GB of its tables,`,
        'while full backups of the cluster are taken on the same machine, one after the other. "peer / ours" of "no backup" is the share of the',
        'throughput that is kept: 0.90 is a loss of 10 %. pgBackRest: process-max=2, zst level 1, AES-256.',
      ],
      contestants: [
        beside('regain backing up', { argv: regain.argv('backup', 'bench', '--full') }),
        { name: 'no backup', run: () => measure(pgbench(server, CLIENTS, transactions)) },
        beside('pgBackRest backing up', server.pgBackRest('--type=full', 'backup')),
      ],
      bars: { 'no backup': 0.9 },
    },
  ]
}

interface Repeated {
  /** How often it has ended. */
  done(): number
  end(): Promise<void>
}

/** Runs a command again and again until `end`, which interrupts it. */
function repeat({ argv: [program = '', ...args] }: Command): Repeated {
  let count = 0
  let isEnding = false
  let interrupt = () => {}
  const running = (async () => {
    while (!isEnding) {
      const child = spawn(program, args, { stdio: 'ignore' })
      interrupt = () => void child.kill('SIGTERM')
      const [status] = (await once(child, 'exit')) as [number | null]
      if (!isEnding && status !== 0) throw new Error(`${program} ended with status ${status} beside pgbench.`)
      if (!isEnding) count++
    }
  })()
  // Told by `end`.
  running.catch(() => undefined)
  return {
    done: () => count,
    async end() {
      isEnding = true
      interrupt()
      await running
    },
  }
}
