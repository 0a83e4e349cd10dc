import { userInfo } from 'node:os'
import { RegainError } from '../../errors.ts'

/** libpq's sslmode: 'prefer' and 'require' encrypt without asking who answers; verify-* also prove the server. */
export type TlsMode = 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'

/** Where and as whom to connect. `password` never leaves this object but to the server. */
export interface ConnectionConfig {
  /** Name, address, or folder of a Unix socket (begins with '/'). */
  host: string
  port: number
  user: string
  password?: string
  /** For SQL; physical replication has none. */
  database: string
  tls: TlsMode
  rootCertificateFile?: string
  certificateFile?: string
  keyFile?: string
  channelBinding: boolean
  connectTimeoutMs: number
}

const DEFAULT_CONNECT_TIMEOUT_MS = 15_000
const TLS_MODES: readonly TlsMode[] = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full']
const KNOWN = [
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'connect_timeout',
  'channel_binding',
  'application_name',
  'target_session_attrs',
] as const

/**
 * Reads a connection URL as libpq does, for one host: `postgres://user:password@host:port/database?sslmode=…`; a Unix
 * socket is `postgres:///database?host=/folder`. Rejects with `config-invalid`, never quoting the password.
 */
export function parseConnectionUrl(text: string): ConnectionConfig {
  const url = parseUrl(text)
  const parameters = new Map<string, string>()
  for (const [name, value] of url.searchParams) {
    if (!KNOWN.some((known) => known === name)) throw invalid(`the parameter "${name}" is not known here`)
    parameters.set(name, value)
  }
  const host = parameters.get('host') ?? (decode(url.hostname).replace(/^\[|\]$/g, '') || 'localhost')
  if (host.includes(',')) throw invalid('it names several hosts; name the one to back up')
  const user = parameters.get('user') ?? (decode(url.username) || userInfo().username)
  const password = parameters.get('password') ?? decode(url.password)
  const database = parameters.get('dbname') ?? decode(url.pathname.replace(/^\//, ''))
  const file = (name: 'sslrootcert' | 'sslcert' | 'sslkey'): string | undefined => parameters.get(name) || undefined
  const rootCertificateFile = file('sslrootcert')
  const certificateFile = file('sslcert')
  const keyFile = file('sslkey')
  return {
    host,
    port: portOf(parameters.get('port') ?? url.port),
    user,
    ...(password === '' ? {} : { password }),
    database: database === '' ? 'postgres' : database,
    tls: tlsMode(parameters.get('sslmode'), rootCertificateFile !== undefined),
    ...(rootCertificateFile === undefined ? {} : { rootCertificateFile }),
    ...(certificateFile === undefined ? {} : { certificateFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
    channelBinding: parameters.get('channel_binding') === 'require',
    connectTimeoutMs: timeoutOf(parameters.get('connect_timeout')),
  }
}

/** 'postgres://user@host:5432', for people: without password and parameters. */
export function describeConnection(config: ConnectionConfig): string {
  if (config.host.startsWith('/')) return `postgres://${config.user}@${config.host}:${config.port}`
  const host = config.host.includes(':') ? `[${config.host}]` : config.host
  return `postgres://${config.user}@${host}:${config.port}`
}

/** Whether bytes to the server stay on this machine. */
export function isLoopback(config: ConnectionConfig): boolean {
  return (
    config.host.startsWith('/') || config.host === 'localhost' || config.host === '::1' || /^127\./.test(config.host)
  )
}

function parseUrl(text: string): URL {
  if (!/^postgres(ql)?:\/\//.test(text)) throw invalid('it does not begin with postgres://')
  try {
    return new URL(text)
  } catch {
    // The parser's own error would quote the URL with its password.
    throw invalid('it does not read as a URL; special characters of a password must be percent-encoded')
  }
}

function tlsMode(text: string | undefined, hasRoot: boolean): TlsMode {
  if (text === undefined || text === '' || text === 'allow') return 'prefer'
  const mode = TLS_MODES.find((known) => known === text)
  if (!mode) throw invalid(`sslmode "${text}" is none of ${TLS_MODES.join(', ')}`)
  // As libpq: with a root certificate at hand, "require" proves the chain.
  return mode === 'require' && hasRoot ? 'verify-ca' : mode
}

function portOf(text: string): number {
  if (text === '') return 5432
  const port = Number(text)
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid(`"${text}" is not a port`)
  return port
}

function timeoutOf(text: string | undefined): number {
  if (text === undefined || text === '') return DEFAULT_CONNECT_TIMEOUT_MS
  const seconds = Number(text)
  if (!Number.isFinite(seconds) || seconds <= 0 || seconds > 3600)
    throw invalid(`connect_timeout "${text}" is not a number of seconds up to 3600`)
  return seconds * 1000
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('it holds a % that does not begin an escape; write %25 for a percent sign')
  }
}

function invalid(reason: string): RegainError {
  return new RegainError('config-invalid', `The PostgreSQL connection URL cannot be used: ${reason}.`, {
    hint: 'It looks like postgres://user:password@host:5432/database?sslmode=verify-full',
  })
}
