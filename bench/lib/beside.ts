import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { median } from './contest.ts'
import type { BenchServer } from './postgres.ts'
import type { Command } from './run.ts'

/** What a server does with a load at full speed, alone and beside something else, in phases that take turns. */
export interface Beside {
  /** Transactions a second, medians of the phases. */
  alone: number
  beside: number
  /** Of each pair of phases: the share of its throughput that the server keeps. */
  kept: number[]
  /** How often the command ended, and for how long it ran, pauses left out. */
  ended: number
  seconds: number
  /** What the server sent of base backups meanwhile. */
  streamedBytes: number
}

/** For what ran before to die down: dirty pages, the scheduler's memory of who had how much. */
const SETTLE_MS = 300

/**
 * Starts `command` again whenever it ends, stops it (SIGSTOP) for a phase and lets it go on for the next, `pairs` times, while
 * pgbench runs through. Throughput by neighbouring phases of one load: what a machine does from minute to minute is in both.
 */
export async function measureBeside(
  server: BenchServer,
  load: Command,
  command: Command,
  { pairs, phaseMs }: { pairs: number; phaseMs: number },
): Promise<Beside> {
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  const pgbench = start(load)
  const again = repeat(command)
  const sent = await watchBaseBackups(server)
  const phases: { alone: number; beside: number }[] = []
  try {
    // A backup's first seconds are its program's start: let it come to its work.
    await sleep(2000)
    for (let i = 0; i < pairs; i++) {
      again.pause()
      const alone = await throughput(client, phaseMs)
      again.goOn()
      const beside = await throughput(client, phaseMs)
      phases.push({ alone, beside })
    }
  } finally {
    await again.end()
    await sent.end()
    await pgbench.end()
    await client.end()
  }
  return {
    alone: median(phases.map(({ alone }) => alone)),
    beside: median(phases.map(({ beside }) => beside)),
    kept: phases.map(({ alone, beside }) => beside / alone),
    ended: again.ended(),
    seconds: again.seconds(),
    streamedBytes: sent.bytes(),
  }
}

/** Transactions a second by the server's own count: each of pgbench's takes one number. */
async function throughput(client: pg.Client, phaseMs: number): Promise<number> {
  await sleep(SETTLE_MS)
  const before = await transactions(client)
  const startedAt = performance.now()
  await sleep(phaseMs - SETTLE_MS)
  const done = (await transactions(client)) - before
  return done / ((performance.now() - startedAt) / 1000)
}

async function transactions(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ next: string }>('select pg_snapshot_xmax(pg_current_snapshot())::text as next')
  return Number(rows[0]?.next)
}

interface Running {
  signal(name: NodeJS.Signals): void
  ended: Promise<number | null>
  end(): Promise<void>
}

/** In a process group of its own, so that its children stop with it. */
function start({ argv: [program = '', ...args] }: Command): Running {
  const child = spawn(program, args, { stdio: 'ignore', detached: true })
  const ended = once(child, 'exit').then(([status]) => status as number | null)
  const signal = (name: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid ?? 0), name)
  }
  return {
    signal,
    ended,
    async end() {
      signal('SIGTERM')
      signal('SIGCONT')
      await ended
    },
  }
}

function repeat(command: Command) {
  let count = 0
  let ranMs = 0
  let since: number | null = performance.now()
  let isEnding = false
  let running: Running
  const all = (async () => {
    while (!isEnding) {
      running = start(command)
      const status = await running.ended
      if (isEnding) return
      if (status !== 0) throw new Error(`${command.argv[0]} ended with status ${status} beside the load.`)
      count++
    }
  })()
  // Told by `end`.
  all.catch(() => undefined)
  const stopClock = () => {
    if (since !== null) ranMs += performance.now() - since
    since = null
  }
  return {
    pause() {
      running.signal('SIGSTOP')
      stopClock()
    },
    goOn() {
      running.signal('SIGCONT')
      since ??= performance.now()
    },
    ended: () => count,
    seconds: () => ranMs / 1000,
    async end() {
      stopClock()
      isEnding = true
      await running.end()
      await all
    },
  }
}

/** Counts what base backups have got from the server, by its own view of them. */
async function watchBaseBackups(server: BenchServer) {
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  let total = 0
  let last = 0
  let isEnding = false
  const watching = (async () => {
    while (!isEnding) {
      const { rows } = await client.query<{ sent: number }>(
        'select coalesce(sum(backup_streamed), 0)::float8 as sent from pg_stat_progress_basebackup',
      )
      const sent = rows[0]?.sent ?? 0
      // Less than before: the next backup.
      total += sent >= last ? sent - last : sent
      last = sent
      await sleep(200)
    }
  })()
  return {
    bytes: () => total,
    async end() {
      isEnding = true
      await watching
      await client.end()
    },
  }
}
