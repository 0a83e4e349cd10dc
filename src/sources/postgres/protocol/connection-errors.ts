import { isRegainError, RegainError } from '../../../errors.ts'
import { type ConnectionConfig, describeConnection } from './connection-url.ts'
import { ServerError } from './protocol.ts'

/**
 * What a failed connection or command means: `source-unavailable` (may pass by itself) or `source-unsuitable`
 * (someone must change something), with what to change.
 */
export function sourceError(error: unknown, config: ConnectionConfig): RegainError {
  if (isRegainError(error)) return error
  const where = describeConnection(config)
  const said = error instanceof Error ? error.message : String(error)
  const code = errorCode(error)
  const known = KNOWN[code]
  if (known) {
    const hint = known.hint?.(config)
    return new RegainError(known.code, `${where}: ${known.message ?? said}.`, {
      cause: error,
      ...(hint ? { hint } : {}),
    })
  }
  if (/CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL/.test(code)) {
    return new RegainError('source-unsuitable', `${where}: the server's TLS certificate was not accepted (${said}).`, {
      cause: error,
      hint: 'Name the authority that signed it with sslrootcert=FILE in the URL.',
    })
  }
  // Class 08: connection; 53: resources; 57: operator intervention (shutdown, starting up); 58: the server's own I/O.
  const passing = /^(08|53|57|58|XX)/.test(code) || !/^[0-9A-Z]{5}$/.test(code)
  return new RegainError(passing ? 'source-unavailable' : 'source-unsuitable', `${where}: ${said}.`, { cause: error })
}

interface KnownError {
  code: 'source-unavailable' | 'source-unsuitable'
  message?: string
  hint?(config: ConnectionConfig): string
}

const KNOWN: Record<string, KnownError> = {
  ECONNREFUSED: { code: 'source-unavailable', message: 'nothing answers there' },
  ENOENT: { code: 'source-unavailable', message: 'there is no such Unix socket' },
  ENOTFOUND: { code: 'source-unavailable', message: 'this host name is not known' },
  EAI_AGAIN: { code: 'source-unavailable', message: 'the host name could not be looked up' },
  ETIMEDOUT: { code: 'source-unavailable', message: 'no answer in time' },
  ECONNRESET: { code: 'source-unavailable', message: 'the connection broke' },
  EPIPE: { code: 'source-unavailable', message: 'the connection broke' },
  EACCES: { code: 'source-unsuitable', message: 'this user may not use the Unix socket' },
  '28P01': {
    code: 'source-unsuitable',
    hint: () => 'Correct the password in the URL, or in the variable or file that it comes from.',
  },
  '3D000': {
    code: 'source-unsuitable',
    hint: () => 'Correct the name of the database in the URL; any that exists will do, such as postgres.',
  },
  '28000': {
    code: 'source-unsuitable',
    hint: (config) =>
      `Let the role in: a line in pg_hba.conf such as "host replication ${config.user} <address>/32 scram-sha-256", then SELECT pg_reload_conf(); and ALTER ROLE ${quoteIdentifier(config.user)} LOGIN REPLICATION;`,
  },
  '42501': {
    code: 'source-unsuitable',
    hint: (config) =>
      `Give the role its rights: ALTER ROLE ${quoteIdentifier(config.user)} REPLICATION; GRANT pg_monitor TO ${quoteIdentifier(config.user)};`,
  },
  '53300': {
    code: 'source-unavailable',
    hint: () => 'All its connections are in use: raise max_connections or max_wal_senders, or end some.',
  },
}

/** SQLSTATE, or Node's code, or ''. */
export function errorCode(error: unknown): string {
  if (error instanceof ServerError) return error.sqlState
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : ''
}

/** The SQLSTATE behind an error that sourceError made, or of a server's error itself. */
export function sqlStateOf(error: unknown): string {
  return errorCode(isRegainError(error) ? error.cause : error)
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
