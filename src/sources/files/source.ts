import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Ambient, Finding } from '../../model.ts'
import type {
  BackupOptions,
  PointReader,
  PointWriter,
  RestoreSummary,
  RestoreTarget,
  Source,
  SourceOptions,
  SourceSummary,
} from '../contract.ts'
import { backupFiles } from './backup.ts'
import { checkFiles } from './check.ts'
import { runCommand } from './commands.ts'
import { restoreFiles } from './restore.ts'

export interface FilesConfig {
  /** Absolute paths of folders and files. */
  paths: string[]
  /** Patterns as in .gitignore, relative to the source's root. */
  exclude: string[]
  /** Shell commands around the reading of the files: to bring an application's files to rest, and let it go on. */
  before?: string | undefined
  after?: string | undefined
}

export interface FilesOptions {
  /** Absolute paths that are never backed up, wherever they lie: the destination's folder, Regain's own state. */
  skip?: string[]
  /** False: other file systems mounted in the tree are left out. Default true. */
  crossFileSystems?: boolean
  /** How long each command may take. Default five minutes. */
  commandLimitMs?: number
}

const COMMAND_LIMIT_MS = 5 * 60 * 1000

/** A tree of files on this machine. Entries are those of the file system, relative to one root (see roots.ts). */
export function createFilesSource(config: FilesConfig, ambient: Ambient, options: FilesOptions = {}): Source {
  return new FilesSource(config, ambient, options)
}

class FilesSource implements Source {
  readonly type = 'files'
  readonly description: string
  readonly #config: FilesConfig
  readonly #ambient: Ambient
  readonly #skip: string[]
  readonly #crossFileSystems: boolean
  readonly #commandLimitMs: number

  constructor(config: FilesConfig, ambient: Ambient, options: FilesOptions) {
    this.#config = config
    this.#ambient = ambient
    this.description = config.paths.join(', ')
    this.#skip = options.skip ?? []
    this.#crossFileSystems = options.crossFileSystems ?? true
    this.#commandLimitMs = options.commandLimitMs ?? COMMAND_LIMIT_MS
  }

  check(options: SourceOptions): Promise<Finding[]> {
    return checkFiles({ ...this.#config, skip: this.#skip, crossFileSystems: this.#crossFileSystems }, options)
  }

  backup(writer: PointWriter, options: BackupOptions): Promise<SourceSummary> {
    const { paths, exclude } = this.#config
    const plan = { paths, exclude, skip: this.#skip, crossFileSystems: this.#crossFileSystems }
    return this.#atRest(options, () => backupFiles(plan, writer, options))
  }

  restore(reader: PointReader, target: RestoreTarget, options: SourceOptions): Promise<RestoreSummary> {
    return restoreFiles(reader, target, options, this.#config.exclude)
  }

  /**
   * Runs `act` between the two commands. Once `before` was started, `after` runs whatever happens, also when the person
   * interrupts: an application that stays frozen is worse than waiting for it. The commands themselves are never shown:
   * they may hold a password.
   */
  async #atRest(options: BackupOptions, act: () => Promise<SourceSummary>): Promise<SourceSummary> {
    throwIfInterrupted(options.signal)
    let summary: SourceSummary
    try {
      await this.#before(options)
      summary = await act()
    } catch (error) {
      // Its failure is in the log; why there is no point is what must be reported.
      await this.#after()
      throw error
    }
    const trouble = await this.#after()
    return trouble === null ? summary : { ...summary, trouble }
  }

  async #before(options: BackupOptions): Promise<void> {
    const { before } = this.#config
    if (before === undefined) return
    this.#ambient.log('info', 'Running the before command of a files source.')
    const failure = await runCommand(before, { limitMs: this.#commandLimitMs, signal: options.signal })
    throwIfInterrupted(options.signal)
    if (failure === null) return
    throw new RegainError(
      'source-unavailable',
      `The before command ${failure}. The files may not be at rest, so no backup was made.`,
      { hint: 'Run it by hand to see why, or take `before` out of the configuration.' },
    )
  }

  /** Logged at once and not only reported with the point: bringing what was read to its end may take long. */
  async #after(): Promise<RegainError | null> {
    const { after } = this.#config
    if (after === undefined) return null
    this.#ambient.log('info', 'Running the after command of a files source.')
    const failure = await runCommand(after, { limitMs: this.#commandLimitMs })
    if (failure === null) return null
    const message = `THE AFTER COMMAND ${failure}. The application may still be stopped or frozen: run the command by hand.`
    this.#ambient.log('error', message)
    return new RegainError('source-not-resumed', message)
  }
}
