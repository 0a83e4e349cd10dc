import type { EventEmitter } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import { sourceError } from './connection-errors.ts'
import { type ConnectionConfig, describeConnection } from './connection-url.ts'
import { createFastSocket, type FastSocket } from './fast-socket.ts'
import { ReplicationConnection } from './replication-connection.ts'

/**
 * Runs `use` with an ordinary SQL connection and closes it. Errors of connecting and of queries come as
 * `source-unavailable` or `source-unsuitable`; the signal breaks the connection and rejects with `interrupted`.
 */
export async function withSql<T>(
  config: ConnectionConfig,
  signal: AbortSignal,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const { client } = await connect(config, signal, false)
  const breakOff = (): void => {
    streamOf(client).destroy()
  }
  signal.addEventListener('abort', breakOff, { once: true })
  try {
    throwIfInterrupted(signal)
    return await use(client)
  } catch (error) {
    throwIfInterrupted(signal)
    throw sourceError(error, config)
  } finally {
    signal.removeEventListener('abort', breakOff)
    // Its answers have been taken: a connection that breaks while it is closed is closed as well.
    await client.end().catch(() => undefined)
  }
}

/** A physical replication connection. Close it. Errors as withSql. */
export async function connectReplication(
  config: ConnectionConfig,
  signal: AbortSignal,
): Promise<ReplicationConnection> {
  const { client, fast } = await connect(config, signal, true)
  const { connection } = client as unknown as PgInternals
  const socket = streamOf(client)
  // From here on the socket speaks with our own framing: pg's queries do not know the replies of replication commands.
  // The server is idle now (ReadyForQuery was read), so pg's parser holds nothing back.
  socket.removeAllListeners('data')
  connection.removeAllListeners()
  // ReplicationConnection hears of the socket's errors itself; without a listener pg's would end the process.
  connection.on('error', () => undefined)
  fast?.share()
  return new ReplicationConnection(socket, config, signal)
}

/** What pg does not declare: the connection below a client. Its presence is part of our pinned version of pg. */
interface PgInternals {
  connection: EventEmitter & { stream: Socket }
}

function streamOf(client: pg.Client): Socket {
  return (client as unknown as PgInternals).connection.stream
}

interface Connected {
  client: pg.Client
  fast: FastSocket | null
}

async function connect(config: ConnectionConfig, signal: AbortSignal, replication: boolean): Promise<Connected> {
  throwIfInterrupted(signal)
  const tls = await tlsOptions(config)
  try {
    return await connectOnce(config, signal, replication, tls)
  } catch (error) {
    throwIfInterrupted(signal)
    const refused = error instanceof Error && /does not support SSL/.test(error.message)
    if (refused && config.tls === 'prefer') {
      return connectOnce(config, signal, replication, false).catch((again: unknown) => {
        throwIfInterrupted(signal)
        throw sourceError(again, config)
      })
    }
    if (refused) {
      throw new RegainError(
        'source-unsuitable',
        `${describeConnection(config)}: the server does not offer TLS, which sslmode=${config.tls} asks for.`,
        {
          cause: error,
          hint: 'Set ssl = on at the server with a certificate, or connect over a Unix socket.',
        },
      )
    }
    throw sourceError(error, config)
  }
}

async function connectOnce(
  config: ConnectionConfig,
  signal: AbortSignal,
  replication: boolean,
  ssl: ConnectionOptions | false,
): Promise<Connected> {
  throwIfInterrupted(signal)
  // pg's own handshake keeps pieces of what it reads, so the buffer is shared only after it.
  const fast = replication && ssl === false ? createFastSocket() : null
  const settings: pg.ClientConfig & { replication?: string; enableChannelBinding: boolean } = {
    host: config.host,
    port: config.port,
    user: config.user,
    database: config.database,
    ssl,
    connectionTimeoutMillis: config.connectTimeoutMs,
    // A backup only listens: without this a peer that lost its power is waited for for hours.
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
    application_name: 'regain',
    enableChannelBinding: config.channelBinding,
    // Without a password here, pg looks at PGPASSWORD and ~/.pgpass, as every client of PostgreSQL does.
    ...(config.password === undefined ? {} : { password: config.password }),
    ...(replication ? { replication: 'true' } : {}),
    ...(fast ? { stream: () => fast.socket } : {}),
  }
  const client = new pg.Client(settings)
  // A connection that breaks while idle shows in the next query.
  client.on('error', () => undefined)
  const breakOff = (): void => {
    streamOf(client).destroy()
  }
  signal.addEventListener('abort', breakOff, { once: true })
  try {
    await client.connect()
    return { client, fast }
  } catch (error) {
    streamOf(client).destroy()
    if (error instanceof Error && error.message === 'timeout expired') Object.assign(error, { code: 'ETIMEDOUT' })
    throw error
  } finally {
    signal.removeEventListener('abort', breakOff)
  }
}

async function tlsOptions(config: ConnectionConfig): Promise<ConnectionOptions | false> {
  // Unix sockets never speak TLS.
  if (config.tls === 'disable' || config.host.startsWith('/')) return false
  const [ca, cert, key] = await Promise.all([
    readTlsFile(config.rootCertificateFile, 'sslrootcert'),
    readTlsFile(config.certificateFile, 'sslcert'),
    readTlsFile(config.keyFile, 'sslkey'),
  ])
  return {
    rejectUnauthorized: config.tls === 'verify-ca' || config.tls === 'verify-full',
    ...(config.tls === 'verify-ca' ? { checkServerIdentity: () => undefined } : {}),
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
  }
}

async function readTlsFile(file: string | undefined, parameter: string): Promise<Buffer | undefined> {
  if (file === undefined) return undefined
  return readFile(file).catch((cause: unknown) => {
    throw new RegainError('config-invalid', `The file of ${parameter}, ${file}, cannot be read.`, { cause })
  })
}
