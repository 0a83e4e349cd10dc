import type {
  Configuration,
  DestinationConfiguration,
  KeyConfiguration,
  ServiceConfiguration,
  SourceConfiguration,
} from '../config/configuration.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Ambient, Point } from '../model.ts'
import type { OpenPoint } from '../repository/api.ts'
import type {
  LogFollower,
  LogGuard,
  LogStore,
  PointReader,
  RestoreMoment,
  Source,
  SourceOptions,
} from '../sources/contract.ts'
import type { Storage } from '../storage/contract.ts'

/** What every operation is handed; made in src/main.ts, by the daemon, or by a test. */
export interface Application {
  /** '0.1.0'. */
  readonly version: string
  readonly ambient: Ambient
  /** Variables of the process, as the composition root found them. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Absolute path of the `regain` launcher, for commands that other programs run. */
  readonly launcher: string
  /** Of this process: who holds a lock says so with it. */
  readonly processId: number
  readonly config: Configuration
  readonly drivers: Drivers
}

/** The one place where operations meet drivers. Each call loads its driver's code when it is first made. */
export interface Drivers {
  /** Makes the place for one service's repository; fine if it is there. */
  createStorage(request: StorageRequest): Promise<Storage>
  /** Rejects with `storage-not-found` if the place is not there. */
  openStorage(request: StorageRequest): Promise<Storage>

  /** What can be known of a service's place at a destination without writing. Null: it has no meaning, or writing alone would tell. */
  inspectDestination(
    destination: DestinationConfiguration,
    service: string,
  ): Promise<{ freeBytes: number | null; isWritable: boolean | null }>

  /** The host key that a server shows if the configuration names none, unproved; null where that is no question. */
  unknownHostKey(destination: DestinationConfiguration): Promise<{ type: string; fingerprint: string } | null>

  /** Whether the key is there. Reads nothing of it. */
  hasKey(key: KeyConfiguration): Promise<boolean>
  /** Whether other users of the machine may read or change it where it lies. The key must be there. */
  isKeyExposed(key: KeyConfiguration): Promise<boolean>
  /** False if the key was there already, or is not of a kind that is made; one that exists is never replaced. */
  createKey(key: KeyConfiguration, ambient: Ambient): Promise<boolean>
  openKey(key: KeyConfiguration, ambient: Ambient): Promise<KeyProvider>
  /** Makes a key file, never over another, of the text of one or of a printed key. */
  importKeyFile(path: string, text: string): Promise<void>
  /** A key file's bytes in the form for paper. */
  printKey(kek: Buffer, about: readonly string[]): Promise<string>

  createSource(request: SourceRequest): Promise<Source>
  /** Rejects with `config-invalid` where createSource would for the source's own settings. Asks nobody. */
  checkSettings(request: Pick<SourceRequest, 'service' | 'source'>): Promise<void>
  /** Null: the source has no log, or its configuration does not ask for one. */
  createFollower(request: SourceRequest): Promise<LogFollower | null>
  /** Null: the source has no log, or its configuration does not ask for one. */
  createLogGuard(request: Omit<SourceRequest, 'log' | 'destination'>): Promise<LogGuard | null>
  /** Brings one file of a source's log to where its recovering server wants it. False if there is none of that name. */
  fetchLog(source: SourceConfiguration, request: FetchLog): Promise<boolean>
  /** Stores one file of a source's log durably, from where its server has it. False: no recovery needs it. */
  pushLog(
    source: SourceConfiguration,
    request: { store: LogStore; path: string; workingDirectory: string },
  ): Promise<boolean>
  /**
   * How a restore to `at` begins, from points (oldest first) and log; null for sources without a log, where the points
   * alone decide. Rejects with `moment-unreachable`, naming the furthest moment and why it is that.
   */
  planRecovery(
    request: SourceRequest,
    points: readonly Point[],
    at: RestoreMoment,
    signal: AbortSignal,
  ): Promise<RecoveryStart | null>
  /** What a restore of the point into a directory does there and outside of it. Rejects with what would keep it from beginning. */
  planTarget(source: SourceConfiguration, point: Point, request: TargetRequest): Promise<TargetPlan>
  /** Databases whose content a restore of `wanted` alone leaves out. Rejects with `usage` if the point has none of a name. */
  leftOutBeside(
    source: SourceConfiguration,
    point: PointReader,
    wanted: readonly string[],
    signal: AbortSignal,
  ): Promise<string[]>
  /**
   * Log of a source that none of these points needs: those of `onward` with every later moment, the others for themselves
   * alone. Null for sources without a log.
   */
  unneededLog(request: SourceRequest, points: readonly KeptPoint[]): Promise<UnneededLog[] | null>
  /** What the points and the log of a source can bring back; null for sources without a log. */
  recoveryWindows(request: SourceRequest, points: readonly Point[]): Promise<RecoveryWindow[] | null>
  /** Points of one source that can't be restored, because log of their own backup is not there. The source need not be configured. */
  pointGaps(sourceType: string, log: LogStore, points: readonly Point[]): Promise<PointGap[]>
  /** Finds in a source's log what was dropped, truncated or deleted. Rejects with `usage` for sources without a log. */
  searchLog(request: SourceRequest, search: LogSearch, reporting: Reporting): Promise<LogSearchSummary>
}

export interface LogSearch {
  points: readonly Point[]
  /** Opens a point for as long as `use` runs. */
  withPoint<T>(id: string, use: (point: OpenPoint) => Promise<T>): Promise<T>
  /** Names as the database keeps them; null: any. */
  database: string | null
  schema: string | null
  table: string | null
  /** The fewest rows that count as a mass delete, or update. */
  rows: number
  /** Whether mass updates are looked for. */
  updates: boolean
  /** A time or a position; null: as far as points and log reach. */
  from: RestoreMoment | null
  to: RestoreMoment | null
  /** Called in the order of the log. False ends the search. */
  found(loss: LoggedLoss): boolean
}

/** What one committed transaction took away, and how to get it back. */
export interface LoggedLoss {
  kind: 'drop' | 'truncate' | 'delete' | 'update' | 'drop-database'
  /** Null: its name is not known. */
  database: string | null
  schema: string | null
  table: string | null
  /** Oid of the table, or of the database. */
  oid: number
  /** As in pg_class.relkind and relpersistence; empty for databases. */
  relationKind: string
  persistence: string
  /** Rows deleted or updated, counted. */
  rows: number | null
  /** Rows that the table had by its last ANALYZE or VACUUM; null: not known. */
  estimatedRows: number | null
  xid: number
  /** It was prepared (PREPARE TRANSACTION) before: in a restore to right before its commit it still holds its locks. */
  prepared: boolean
  /** RFC 3339 UTC with microseconds, of its commit. */
  time: string
  /** Where its commit begins. */
  lsn: string
  timeline: number
  /** WHEN of a restore that ends right before it, exactly. Null: no restore can reach that. */
  at: string | null
  /** The last moment before it by the server's clock. */
  atTime: string
}

export interface LogSearchSummary {
  /** The stretches that were searched, oldest first, each with the point that its names come from. */
  searched: { timeline: number; point: string; from: string; fromTime: string; to: string; toTime: string }[]
  /** What could not be looked at, for people. */
  notes: string[]
  /** Transactions that deleted or updated fewer rows than asked for, of tables that were. */
  smaller: number
  /** Whether a table or database of the name that was asked for ever was there. */
  isKnown: boolean
}

export interface TargetRequest {
  directory: string
  /** As RestoreTarget.tablespaces. */
  tablespaces: Record<string, string>
  /** Null: into an empty directory. Else over what is there, which a restore of the same source left (true) or not. */
  resumes: boolean | null
}

export interface TargetPlan {
  /** Absolute paths outside of the directory that must be absent or empty. */
  beside: string[]
  /** For people: what is done besides writing the directory, and what they should know of it. */
  steps: string[]
  notes: string[]
}

/** The first segment that is missing. */
export interface PointGap {
  /** Id. */
  point: string
  branch: string
  segment: string
  /** For people: whole sentences. */
  detail: string
}

export interface StorageRequest {
  destination: DestinationConfiguration
  service: string
  /** Absolute path of the state directory, where copies of what was read from far away are kept. */
  state: string
  ambient: Ambient
}

export interface FetchLog {
  store: LogStore
  name: string
  /** Absolute path of the file to make. */
  target: string
  /** Folder for what will be asked for next; null: none. */
  spool: string | null
  /** File that says which recovery it is for; null: none. */
  guard: string | null
  signal: AbortSignal
}

export interface SourceRequest {
  service: ServiceConfiguration
  source: SourceConfiguration
  /** Where the repository lives that `log` belongs to. */
  destination: DestinationConfiguration
  ambient: Ambient
  log: LogStore
  config: Configuration
  launcher: string
}

/** Where a recovery begins, and how far it could go. */
export interface RecoveryStart {
  /** Id of the point. */
  point: string
  /** RFC 3339 UTC: the end of the log that connects to it. */
  until: string
  /** What a person should know before it starts. */
  notes: string[]
  /** Log that it replays at the most. */
  logBytes: number
}

export interface KeptPoint {
  point: Point
  onward: boolean
}

/** Segments and unfinished pieces of a branch with from <= name < to, in the order of text. */
export interface UnneededLog {
  branch: string
  from: string
  to: string
}

/** Moments a source can be brought back to without a break. */
export interface RecoveryWindow {
  /** 'timeline 1'. */
  branch: string
  /** The point it begins with. */
  point: string
  /** Position in the source's own notation, and RFC 3339 UTC where known. */
  from: { position: string; time: string }
  to: { position: string; time: string | null }
  /** Why it ends before the newest log; null if it ends with it. For people. */
  endsBecause: string | null
}

/** How an operation speaks while it runs: interruption, progress, remarks. */
export type Reporting = SourceOptions
