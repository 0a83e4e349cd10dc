import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import { settlesWithin } from '../bounded.ts'
import { askServer } from '../protocol/ping.ts'
import { type PostgresBinaries, reachableBinaries } from './binaries.ts'
import { childrenOf, waitUntilGone } from './processes.ts'
import { freePort, makeRunDirectory, makeRunDirectoryIn, type RunDirectory } from './run-directory.ts'
import { type ServerUser, serverUser } from './server-user.ts'

/**
 * A PostgreSQL server of our own on a data directory: on loopback only, with a private folder for its Unix socket, as
 * an unprivileged user. Used by the demo, by `restore --start`, by drills and by tests.
 */
export interface PostgresServer {
  readonly binaries: PostgresBinaries
  readonly directory: string
  readonly port: number
  /** Folder of the Unix socket; only root and the server's user can enter it. */
  readonly socketDirectory: string
  readonly logFile: string
  /** Of the postmaster. */
  readonly pid: number
  /** How it ended, or null while it runs. */
  ended(): ServerEnd | null
  /** The newest 256 KiB of its log. */
  log(): Promise<string>
  /** A connection URL over TCP. No password in it. */
  url(user: string, database: string): string
  /** Ends it: fast, then immediate, then by kill; removes its run folder. Safe to repeat. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
  /** SIGKILL to the postmaster, as a crash would; resolves when all its processes are gone. For tests and the demo. */
  crash(): Promise<void>
  /** Lets it outlive this process. Its run folder stays: see `inside`. */
  release(): void
}

export interface ServerEnd {
  code: number | null
  signal: string | null
}

export interface StartOptions {
  binaries: PostgresBinaries
  directory: string
  /** Run-time settings that override the configuration files. */
  settings?: Record<string, string>
  /** Default: a free one. */
  port?: number
  signal: AbortSignal
  /**
   * 'connections': resolve when it accepts connections. 'process': as soon as the process runs (a long recovery is
   * followed by the caller, with `ended` and `acceptsConnections`).
   */
  until?: 'connections' | 'process'
  /** How long it may take to accept connections, in ms. Default 60 s. */
  readyMs?: number
  /** Where run folders are made. Default: the system's temporary folder. */
  scratch?: string
  /** The run folder lies in the data directory, so that nothing is left elsewhere of a server that is released. */
  inside?: boolean
  /** Program and arguments that run the server's own, in its place: its process must stay the same one. */
  wrapper?: readonly string[]
}

const FAST_STOP_MS = 30_000
const IMMEDIATE_STOP_MS = 10_000
const LOG_TAIL_BYTES = 256 * 1024

/**
 * Starts a server and waits for it (see `until`). Rejects with `precondition-failed` and the end of the server's log if
 * it ends or does not answer in time; nothing is left running then.
 */
export async function startServer(options: StartOptions): Promise<PostgresServer> {
  throwIfInterrupted(options.signal)
  const user = await serverUser(options.directory)
  const inside = options.inside ? await makeRunDirectoryIn(options.directory, user) : null
  const run = inside ?? (await makeRunDirectory(options.scratch, user))
  try {
    const binaries = await reachableBinaries(options.binaries, user, run.directory)
    const port = options.port ?? (await freePort())
    const server = await launch(binaries, options, user, run, port)
    if (options.until === 'process') return server
    try {
      await waitUntilReady(server, options.readyMs ?? 60_000, options.signal)
      return server
    } catch (error) {
      await server.stop('immediate')
      throw error
    }
  } catch (error) {
    await rm(run.directory, { recursive: true, force: true })
    throw error
  }
}

/** Whether the server answers and takes connections; no role or password is needed for the question. */
export async function acceptsConnections(server: PostgresServer): Promise<boolean> {
  return (await askServer(join(server.socketDirectory, `.s.PGSQL.${server.port}`))) === 'accepts'
}

/** An error that carries what the server last said. */
export async function serverFailure(server: PostgresServer, what: string): Promise<RegainError> {
  const lines = (await server.log()).trimEnd().split('\n')
  const telling = lines.filter((line) => /(FATAL|PANIC|ERROR|HINT|DETAIL|could not|invalid|unrecognized)/.test(line))
  const said = (telling.length > 0 ? telling : lines).slice(-6).join('\n')
  return new RegainError('precondition-failed', `${what} It last said:\n${said}`, {
    hint: 'Correct what PostgreSQL complains of and try again.',
  })
}

async function launch(
  binaries: PostgresBinaries,
  options: StartOptions,
  user: ServerUser | null,
  run: RunDirectory,
  port: number,
): Promise<PostgresServer> {
  const logFile = join(run.directory, 'log')
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: run.private,
    // Its messages must reach the file we read, in the words we know, whatever the restored configuration says.
    logging_collector: 'off',
    log_destination: 'stderr',
    lc_messages: 'C',
    // The original's would be that of the server it was copied from.
    external_pid_file: join(run.private, 'pid'),
    ...options.settings,
  }
  const arguments_ = ['-D', options.directory]
  for (const [name, value] of Object.entries(settings)) arguments_.push('-c', `${name}=${value}`)
  // In a data directory that is its user's, a link could stand in the file's place.
  const { O_WRONLY, O_CREAT, O_APPEND, O_EXCL, O_NOFOLLOW } = constants
  const log = await open(logFile, O_WRONLY | O_CREAT | O_APPEND | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    // A session of its own: Ctrl-C on the terminal is for us, and we stop the server in order.
    const [program = '', ...rest] = [...(options.wrapper ?? []), join(binaries.directory, 'postgres'), ...arguments_]
    const child = spawn(program, rest, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      ...(user ? { uid: user.uid, gid: user.gid } : {}),
    })
    await spawned(child, binaries)
    return new RunningServer(binaries, options.directory, port, run, logFile, child)
  } finally {
    await log.close()
  }
}

function spawned(child: ChildProcess, binaries: PostgresBinaries): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (cause) => {
      reject(
        new RegainError('precondition-failed', `The program ${binaries.directory}/postgres could not be started.`, {
          cause,
        }),
      )
    })
  })
}

class RunningServer implements PostgresServer {
  readonly binaries: PostgresBinaries
  readonly directory: string
  readonly port: number
  readonly socketDirectory: string
  readonly logFile: string
  readonly pid: number
  readonly #run: RunDirectory
  readonly #child: ChildProcess
  readonly #exit: Promise<void>
  #end: ServerEnd | null = null

  constructor(
    binaries: PostgresBinaries,
    directory: string,
    port: number,
    run: RunDirectory,
    logFile: string,
    child: ChildProcess,
  ) {
    this.binaries = binaries
    this.directory = directory
    this.port = port
    this.socketDirectory = run.private
    this.logFile = logFile
    this.pid = child.pid ?? 0
    this.#run = run
    this.#child = child
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#end = { code, signal }
        resolve()
      })
    })
  }

  ended(): ServerEnd | null {
    return this.#end
  }

  async log(): Promise<string> {
    const file = await open(this.logFile, 'r')
    try {
      const { size } = await file.stat()
      const from = Math.max(0, size - LOG_TAIL_BYTES)
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from)
      return buffer.toString('utf8', 0, bytesRead)
    } finally {
      await file.close()
    }
  }

  url(user: string, database: string): string {
    return `postgres://${encodeURIComponent(user)}@127.0.0.1:${this.port}/${encodeURIComponent(database)}`
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    if (mode === 'fast') await this.#endWith('SIGINT', FAST_STOP_MS)
    await this.#endWith('SIGQUIT', IMMEDIATE_STOP_MS)
    await this.crash()
    await rm(this.#run.directory, { recursive: true, force: true })
  }

  async crash(): Promise<void> {
    if (this.#end !== null) return
    const children = await childrenOf(this.pid)
    this.#child.kill('SIGKILL')
    await this.#exit
    // They notice the postmaster's death and end by themselves.
    await waitUntilGone(children)
  }

  release(): void {
    this.#child.unref()
  }

  async #endWith(signal: NodeJS.Signals, waitMs: number): Promise<void> {
    if (this.#end !== null) return
    this.#child.kill(signal)
    await settlesWithin(this.#exit, waitMs)
  }
}

async function waitUntilReady(server: PostgresServer, readyMs: number, signal: AbortSignal): Promise<void> {
  const stepMs = 50
  for (let waitedMs = 0; waitedMs < readyMs; waitedMs += stepMs) {
    throwIfInterrupted(signal)
    if (server.ended()) throw await serverFailure(server, 'The PostgreSQL server ended while starting.')
    if (await acceptsConnections(server)) return
    await delay(stepMs)
  }
  throw await serverFailure(
    server,
    `The PostgreSQL server did not accept connections within ${Math.round(readyMs / 1000)} s.`,
  )
}
