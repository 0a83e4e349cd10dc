import { watch } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogStore } from '../../contract.ts'
import { isSegmentName } from '../log/wal.ts'
import type { ServerUser } from '../server/server-user.ts'
import { namesAhead, readAhead, readLogFile, writeAtomically } from './fetch.ts'
import type { RecoveryGuard } from './recovery-guard.ts'

/**
 * Serves a recovering server's restore_command from this process: the repository is open here, and the server's user
 * need not be able to read keys or repository. They meet in a folder: the script (recovery-script.ts) leaves `want.NAME`
 * and waits for `NAME`, `none.NAME` or `failed`; segments that come next are put there before they are asked for.
 */
export interface LogFeeder {
  /** The folder, of the server's user, below one that only we can change. */
  readonly directory: string
  /** What went wrong while feeding; null: nothing. */
  error(): Error | null
  /** Ends it and removes the folder. Safe to repeat. */
  close(): Promise<void>
}

export interface FeederOptions {
  store: LogStore
  user: ServerUser | null
  /** Looks through each segment before it is handed over; null: nobody need. */
  guard: RecoveryGuard | null
  /** Called with the size of each file that was taken. */
  fed(bytes: number): void
  scratch?: string
}

/** A look at the folder at least so often, should a notice of the file system get lost. */
const LOOK_MS = 100
const AT_ONCE = 4

export async function startFeeder(options: FeederOptions): Promise<LogFeeder> {
  const parent = await mkdtemp(join(options.scratch ?? tmpdir(), 'regain-log-'))
  await chmod(parent, options.user ? 0o755 : 0o700)
  const directory = join(parent, 'log')
  await mkdir(directory, { mode: 0o700 })
  if (options.user) await chown(directory, options.user.uid, options.user.gid)
  return new Feeder(parent, directory, options)
}

class Feeder implements LogFeeder {
  readonly directory: string
  readonly #parent: string
  readonly #options: FeederOptions
  readonly #loop: Promise<void>
  #closed = false
  #wake: (() => void) | null = null
  #changed = false
  #error: Error | null = null
  /** Segments that come next, nearest first; empty: nothing to fetch ahead. */
  #ahead: string[] = []
  #limit = 0

  constructor(parent: string, directory: string, options: FeederOptions) {
    this.#parent = parent
    this.directory = directory
    this.#options = options
    this.#loop = this.#run()
  }

  error(): Error | null {
    return this.#error
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#notice()
    await this.#loop
    await rm(this.#parent, { recursive: true, force: true })
  }

  #notice(): void {
    this.#changed = true
    this.#wake?.()
  }

  async #run(): Promise<void> {
    const watcher = watch(this.directory, () => this.#notice())
    // The timer looks anyway; the watcher only saves time.
    watcher.on('error', () => undefined)
    const timer = setInterval(() => this.#notice(), LOOK_MS)
    try {
      while (!this.#closed) {
        this.#changed = false
        await this.#serve()
        if (!this.#changed && !this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve))
        this.#wake = null
      }
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error))
      // If not even that can be said there, the script gives up by itself, and #error has the reason.
      await writeAtomically(join(this.directory, 'failed'), Buffer.alloc(0), this.#options.user).catch(() => undefined)
    } finally {
      clearInterval(timer)
      watcher.close()
    }
  }

  /** Answers what is wanted; then a few segments ahead, so that a new wish never waits for more than those. */
  async #serve(): Promise<void> {
    const names = await readdir(this.directory)
    for (const name of names) if (name.startsWith('want.')) await this.#answer(name.slice('want.'.length))
    const free = this.#limit - names.filter(isSegmentName).length
    const next = this.#ahead.slice(0, Math.max(0, Math.min(AT_ONCE, free)))
    if (next.length === 0) return
    const { store, guard } = this.#options
    const found = await Promise.all(next.map((name) => readAhead(store, name, guard)))
    for (const [i, bytes] of found.entries()) {
      const name = next[i] ?? ''
      // Its time may come when it is asked for.
      this.#ahead = bytes ? namesAhead(name, bytes.length) : []
      if (!bytes) return
      await this.#put(name, bytes)
    }
    this.#changed = true
  }

  async #answer(name: string): Promise<void> {
    await rm(join(this.directory, `want.${name}`), { force: true })
    const bytes = await readLogFile(this.#options.store, name)
    if (!bytes) {
      await writeAtomically(join(this.directory, `none.${name}`), Buffer.alloc(0), this.#options.user)
      return
    }
    if (isSegmentName(name)) await this.#options.guard?.admit(name, bytes)
    await this.#put(name, bytes)
    if (!isSegmentName(name)) return
    this.#ahead = namesAhead(name, bytes.length)
    this.#limit = this.#ahead.length
  }

  async #put(name: string, bytes: Buffer): Promise<void> {
    await writeAtomically(join(this.directory, name), bytes, this.#options.user)
    this.#options.fed(bytes.length)
  }
}
