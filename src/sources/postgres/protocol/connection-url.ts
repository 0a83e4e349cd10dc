import { userInfo } from 'node:os'
import { RegainError } from '../../../errors.ts'

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

/** Which of several servers is wanted, as libpq's target_session_attrs says it. */
export const SESSION_KINDS = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
export type SessionKind = (typeof SESSION_KINDS)[number]

/** The servers of one cluster, in the order in which they are preferred, and which of them is wanted. */
export interface ServerUrl {
  /** At least one; they differ in host and port only. */
  candidates: readonly ConnectionConfig[]
  wanted: SessionKind
}

const MAX_HOSTS = 16

/**
 * Reads a connection URL as libpq does: `postgres://user:password@host:port,host:port/database?target_session_attrs=…`; a
 * Unix socket is `postgres:///database?host=/folder`. Rejects with `config-invalid`, never quoting the password.
 */
export function parseServerUrl(text: string): ServerUrl {
  const { url, hosts } = parseUrl(text)
  const parameters = new Map<string, string>()
  for (const [name, value] of url.searchParams) {
    if (!KNOWN.some((known) => known === name)) throw invalid(`the parameter "${name}" is not known here`)
    parameters.set(name, value)
  }
  const user = parameters.get('user') ?? (decode(url.username) || userInfo().username)
  const password = parameters.get('password') ?? decode(url.password)
  const database = parameters.get('dbname') ?? decode(url.pathname.replace(/^\//, ''))
  const file = (name: 'sslrootcert' | 'sslcert' | 'sslkey'): string | undefined => parameters.get(name) || undefined
  const rootCertificateFile = file('sslrootcert')
  const certificateFile = file('sslcert')
  const keyFile = file('sslkey')
  const common = {
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
  const places = placesOf(hosts, parameters.get('host'), parameters.get('port'))
  return {
    candidates: places.map((place) => ({ ...place, ...common })),
    wanted: sessionKind(parameters.get('target_session_attrs')),
  }
}

/** A connection URL of one server. Rejects with `config-invalid` also if it names several. */
export function parseConnectionUrl(text: string): ConnectionConfig {
  const { candidates } = parseServerUrl(text)
  const [first, ...others] = candidates
  if (first === undefined || others.length > 0) throw invalid('it names several hosts, and one is needed here')
  return first
}

/** 'postgres://user@host:5432', for people: without password and parameters. */
export function describeConnection(config: ConnectionConfig): string {
  return `postgres://${config.user}@${describeHost(config)}`
}

/** 'postgres://user@one:5432,other:5432'. */
export function describeServers({ candidates }: ServerUrl): string {
  return `postgres://${candidates[0]?.user ?? ''}@${candidates.map(describeHost).join(',')}`
}

/** 'host:5432'. */
export function describeHost({ host, port }: Pick<ConnectionConfig, 'host' | 'port'>): string {
  return `${host.includes(':') && !host.startsWith('/') ? `[${host}]` : host}:${port}`
}

/** Whether bytes to the server stay on this machine. */
export function isLoopback(config: ConnectionConfig): boolean {
  return (
    config.host.startsWith('/') || config.host === 'localhost' || config.host === '::1' || /^127\./.test(config.host)
  )
}

/** The URL with a host that stands for all of them, and the hosts as they are written. */
function parseUrl(text: string): { url: URL; hosts: string } {
  // The last @ before the path ends what names the user, as in every URL.
  const match = /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/s.exec(text)
  if (!match) throw invalid('it does not begin with postgres://')
  const [, before = '', hosts = '', behind = ''] = match
  // What stands for the host and the port is then a piece of the password, which must not be shown, nor sent anywhere.
  if (behind.split('?')[0]?.includes('@') || /[#?][^=]*@/.test(behind))
    throw invalid('an @ stands behind a /, ? or #: percent-encode what is special in a user, a password or a database')
  try {
    return { url: new URL(`${before}hosts${behind}`), hosts }
  } catch {
    // The parser's own error would quote the URL with its password.
    throw invalid('it does not read as a URL; special characters of a password must be percent-encoded')
  }
}

/** As libpq: parameters count instead of what stands before the path, and one port serves all hosts. */
function placesOf(
  written: string,
  hostParameter: string | undefined,
  portParameter: string | undefined,
): { host: string; port: number }[] {
  const parts = written.split(',').map(splitHost)
  const hosts = hostParameter?.split(',') ?? parts.map(({ host }) => host)
  const ports = portParameter?.split(',') ?? (hostParameter === undefined ? parts.map(({ port }) => port) : [''])
  if (hosts.length > MAX_HOSTS) throw invalid(`it names more than ${MAX_HOSTS} hosts`)
  if (ports.length !== 1 && ports.length !== hosts.length)
    throw invalid(`it names ${hosts.length} hosts and ${ports.length} ports`)
  return hosts.map((host, i) => ({
    host: host === '' ? 'localhost' : host,
    port: portOf(ports[ports.length === 1 ? 0 : i] ?? ''),
  }))
}

function splitHost(text: string): { host: string; port: string } {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(text)
  if (!match) throw invalid(`"${text}" is not a host; an IPv6 address stands in brackets`)
  return { host: decode(match[1] ?? '').replace(/^\[|\]$/g, ''), port: match[2] ?? '' }
}

function sessionKind(text: string | undefined): SessionKind {
  if (text === undefined || text === '') return 'any'
  const kind = SESSION_KINDS.find((known) => known === text)
  if (!kind) throw invalid(`target_session_attrs "${text}" is none of ${SESSION_KINDS.join(', ')}`)
  return kind
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
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid('a port is not a number from 1 to 65535')
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
