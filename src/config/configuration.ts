import type { KeptLogLimit } from '../policy/kept-log.ts'
import type { Window } from '../policy/schedule.ts'
import type { Retention } from './retention.ts'

/**
 * A configuration ready for use: paths absolute, durations in milliseconds, references resolved, defaults filled in,
 * every name that is used defined.
 */
export interface Configuration {
  /** Absolute path of the file. */
  path: string
  /** Directory of what the daemon remembers, absolute. */
  state: string
  destinations: Record<string, DestinationConfiguration>
  keys: Record<string, KeyConfiguration>
  services: Record<string, ServiceConfiguration>
  /** What this version does not act on, and what should be written otherwise. Never empty lines; for people. */
  warnings: ConfigurationNote[]
  /** As `config show` prints it: defaults filled in, references as written, secrets masked. */
  shown: Record<string, unknown>
}

export interface ConfigurationNote {
  /** 'regain.yaml:12:5'. */
  place: string
  /** Service it is about, if about one. */
  service?: string
  message: string
  /** Backups are refused because of it. */
  isRefused?: true
}

export type DestinationConfiguration =
  | LocalDestination
  | S3Destination
  | AzureDestination
  | GcsDestination
  | SftpDestination

export interface LocalDestination extends Unresolved {
  name: string
  type: 'local'
  path: string
}

export interface S3Destination extends Unresolved {
  name: string
  type: 's3'
  bucket: string
  /** 'regain/production': no slash at either end. */
  prefix?: string
  region?: string
  /** https, or http to this machine. */
  endpoint?: string
  pathStyle?: boolean
  /** Absolute path of a PEM file. */
  ca?: string
  storageClass?: string
  immutableMs?: number
  /** Null: the AWS SDK looks where it always looks. */
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
  limits: TransferLimits
}

export interface AzureDestination extends Unresolved {
  name: string
  type: 'azure'
  container: string
  /** No slash at either end. */
  prefix?: string
  /** https, or http to this machine. */
  endpoint?: string
  login:
    | { kind: 'connection-string'; connectionString: string }
    | { kind: 'account-key'; account: string; accountKey: string }
    | { kind: 'sas'; account?: string; sas: string }
  limits: TransferLimits
}

export interface GcsDestination extends Unresolved {
  name: string
  type: 'gcs'
  bucket: string
  /** No slash at either end. */
  prefix?: string
  /** https, or http to this machine. */
  endpoint?: string
  /** Absolute path of a credentials file; null: Google's libraries look where they always look. */
  credentials: string | null
  immutableMs?: number
  limits: TransferLimits
}

export interface SftpDestination extends Unresolved {
  name: string
  type: 'sftp'
  host: string
  port: number
  user: string
  /** On the server: absolute, or relative to where the login begins. */
  path: string
  login:
    | { kind: 'identity'; path: string; passphrase?: string }
    | { kind: 'agent'; socket: string }
    | { kind: 'password'; password: string }
  /** Null: not named yet, and nothing is sent until it is. */
  hostKey: { fingerprint: string } | { knownHosts: string } | null
  limits: TransferLimits
}

/** What a destination may be asked for. Absent: no limit. */
export interface TransferLimits {
  uploadBytesPerSecond?: number
  downloadBytesPerSecond?: number
  requestsPerSecond?: number
}

export type KeyConfiguration = { name: string } & (
  | { type: 'file'; path: string }
  | {
      type: 'passphrase'
      /** Null: the reference in the file could not be resolved; `unresolved` says why. */
      passphrase: string
    }
  | VaultKeyConfiguration
  | AwsKmsKeyConfiguration
) &
  Unresolved

export interface VaultKeyConfiguration {
  type: 'vault'
  address: string
  key: string
  mount: string
  namespace?: string
  /** Absolute. */
  ca?: string
  auth:
    | { method: 'token'; token: string }
    | { method: 'approle'; roleId: string; secretId: string; mount: string }
    | { method: 'kubernetes'; role: string; mount: string; tokenPath: string }
}

export interface AwsKmsKeyConfiguration {
  type: 'aws-kms'
  key: string
  region?: string
  endpoint?: string
  /** Null: the AWS SDK's own search. */
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
}

export interface ServiceConfiguration {
  name: string
  owner?: string
  environment?: string
  compliance: ('gdpr' | 'hipaa')[]
  objectives: { rpoMs?: number; rtoMs?: number }
  key: string
  destinations: string[]
  sources: Record<string, SourceConfiguration>
  schedule: { full?: string; incremental?: string; prune: string | null; timezone: string }
  /** By source. One without rules is not backed up (`requireRetention`); nothing of it is removed either. */
  retention: Record<string, Retention>
  /** Of its backups. Absent: no limit. `busyShare`: while others keep the processors busy; 1: never gives way. */
  limits: { cpuShare?: number; busyShare?: number; readBytesPerSecond?: number; window: Window | null }
  drills?: { schedule: string; checks: ('integrity' | 'schema' | 'startup' | { sql: string })[] }
}

export type SourceConfiguration =
  | PostgresConfiguration
  | PostgresDumpConfiguration
  | PostgresTenantsConfiguration
  | FilesConfiguration

export interface PostgresConfiguration extends Placed {
  name: string
  type: 'postgres'
  url: string
  log: 'continuous' | 'none'
  slot?: string
  slotLimit: KeptLogLimit
  tailMs: number
  programs?: string
  fingerprint: boolean
}

export interface PostgresDumpConfiguration extends Placed {
  name: string
  type: 'postgres-dump'
  url: string
  /** Empty: all but templates. */
  databases: string[]
  exclude: string[]
  unlogged: boolean
  jobs: number
  programs?: string
  fingerprint: boolean
}

export interface PostgresTenantsConfiguration extends Placed {
  name: string
  type: 'postgres-tenants'
  url: string
  rules: {
    table: string
    key: string
    columns: string[]
    owners: Record<string, string[]>
    shared: string[]
    exclude: string[]
  }
  /** Set where it stands for one tenant alone: its id (operations/tenants.ts). */
  tenant?: string
}

export interface FilesConfiguration extends Placed {
  name: string
  type: 'files'
  paths: string[]
  exclude: string[]
  before?: string
  after?: string
}

interface Placed extends Unresolved {
  /** Where it stands: 'regain.yaml:9:7'. */
  place: string
}

interface Unresolved {
  /**
   * Set when a reference of this part names what is not there: the whole message, with its place. Only who needs the
   * part fails: a restore on a new machine does not need the lost database's password.
   */
  unresolved?: string
}
