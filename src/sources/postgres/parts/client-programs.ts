import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Readable, Transform, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import type { ClientPrograms } from '../server/programs.ts'

/**
 * What libpq reads instead of arguments, where a password would be seen by everybody. `inherited` counts only for what
 * the connection leaves open.
 */
export function clientEnvironment(
  config: ConnectionConfig,
  inherited: Readonly<Record<string, string>>,
): Record<string, string> {
  return {
    ...inherited,
    LC_ALL: 'C',
    PGAPPNAME: 'regain',
    PGHOST: config.host,
    PGPORT: String(config.port),
    PGUSER: config.user,
    PGDATABASE: config.database,
    PGSSLMODE: config.tls,
    PGCONNECT_TIMEOUT: String(Math.max(2, Math.ceil(config.connectTimeoutMs / 1000))),
    ...(config.password === undefined ? {} : { PGPASSWORD: config.password }),
    ...(config.rootCertificateFile === undefined ? {} : { PGSSLROOTCERT: config.rootCertificateFile }),
    ...(config.certificateFile === undefined ? {} : { PGSSLCERT: config.certificateFile }),
    ...(config.keyFile === undefined ? {} : { PGSSLKEY: config.keyFile }),
    ...(config.channelBinding ? { PGCHANNELBINDING: 'require' } : {}),
  }
}

const SAID_BYTES = 16 * 1024

/** A client program that runs. It must be waited for with `ended` or `end`. */
export class Client {
  readonly name: string
  readonly #child: ChildProcess
  readonly #signal: AbortSignal
  readonly #closed: Promise<number | null>
  #said = ''

  constructor(
    programs: ClientPrograms,
    name: string,
    args: readonly string[],
    environment: Record<string, string>,
    signal: AbortSignal,
  ) {
    throwIfInterrupted(signal)
    this.name = name
    this.#signal = signal
    const child = spawn(join(programs.directory, name), args, { cwd: '/', env: environment, stdio: 'pipe' })
    this.#child = child
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-SAID_BYTES)
    })
    // One that ends early breaks the pipe to it; its exit status and words tell why.
    child.stdin.on('error', () => undefined)
    this.#closed = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#said += error.message
        resolve(null)
      })
      child.once('close', resolve)
    })
    const interrupt = (): void => void child.kill('SIGTERM')
    signal.addEventListener('abort', interrupt, { once: true })
    void this.#closed.then(() => signal.removeEventListener('abort', interrupt))
  }

  /** All that it writes to its standard output, to `sink`, which stays open; held back while that takes no more. */
  async pipeTo(sink: Writable, written: (bytes: number) => void): Promise<void> {
    const count = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        written(chunk.length)
        done(null, chunk)
      },
    })
    await pipeline(this.#child.stdout!, count, sink, { end: false })
  }

  /** For a program whose output nobody wants. */
  discardOutput(): void {
    this.#child.stdout!.resume()
  }

  /** All of it must be read, or `end` be called. */
  get output(): Readable {
    return this.#child.stdout!
  }

  get input(): Writable {
    return this.#child.stdin!
  }

  endInput(): void {
    this.#child.stdin!.end()
  }

  async *lines(): AsyncIterableIterator<string> {
    yield* createInterface({ input: this.#child.stdout!, crlfDelay: Number.POSITIVE_INFINITY })
  }

  /** Resolves when it has ended well. Its output must have been read. */
  async ended(): Promise<void> {
    const status = await this.#closed
    throwIfInterrupted(this.#signal)
    if (status === 0) return
    throw new RegainError(
      'precondition-failed',
      `${this.name} failed${this.#said === '' ? ' without saying why.' : `: ${withoutSecrets(this.#said.trim())}`}`,
      {
        hint: 'Correct what PostgreSQL complains of and try again.',
      },
    )
  }

  /** Ends it, whatever it does. Safe to repeat. */
  async end(): Promise<void> {
    this.#child.kill('SIGKILL')
    this.#child.stdout!.destroy()
    await this.#closed
  }
}

/** A statement that failed is quoted, and that of a subscription or user mapping holds a password. */
function withoutSecrets(text: string): string {
  return text.replace(/(password\s*=?\s*)('+[^']*'+|[^\s']+)/gi, '$1…')
}
