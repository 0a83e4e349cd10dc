import { readFile } from 'node:fs/promises'
import ssh2, { type Client, type ConnectConfig, type SFTPWrapper } from 'ssh2'
import { RegainError } from '../errors.ts'
import { errnoName } from '../filesystem/durable.ts'
import { markNotApplied } from './not-applied.ts'
import { fingerprintOf, type HostKeyRule, keyTypeOf, ruleOfFingerprint, ruleOfKnownHosts } from './sftp-host-key.ts'
import { SftpSession } from './sftp-session.ts'

export interface SftpServer {
  host: string
  port: number
  user: string
  /** Exactly one of the three ways to log in. */
  login: SftpLogin
  /** Exactly one of the two; null: the configuration names none, and no connection is made. */
  hostKey: { fingerprint: string } | { knownHosts: string } | null
}

export type SftpLogin =
  /** Path of a private key, and what it is encrypted with. */
  | { kind: 'identity'; path: string; passphrase?: string }
  /** Socket of an ssh-agent. */
  | { kind: 'agent'; socket: string }
  | { kind: 'password'; password: string }

/** From the first packet to a session. */
const CONNECT_TIMEOUT_MS = 20_000
/** A server that is silent for three of these is gone, so no request waits longer than 40 seconds for it. */
const KEEPALIVE_INTERVAL_MS = 10_000
const KEEPALIVE_COUNT = 3

/** A connection that is ready for requests. */
export interface SftpConnection {
  readonly session: SftpSession
  /** Ends it; every request under way fails. */
  close(): Promise<void>
}

/**
 * Connects, once. Rejects with `storage-denied` if the server is not the one that is expected or refuses the login,
 * with `storage-unavailable` if it does not answer. No secret is sent before the server has proved its host key.
 */
export async function connectSftp(server: SftpServer): Promise<SftpConnection> {
  const rule = await hostKeyRule(server)
  const shown: { key: Buffer | null } = { key: null }
  const accepts = (key: Buffer) => {
    shown.key = key
    return rule.accepts(key)
  }
  const config = { ...(await loginConfig(server)), ...transportConfig(server, rule.keyTypes, accepts) }
  const client = new ssh2.Client()
  const closed = new Promise<void>((resolve) => client.once('close', () => resolve()))
  try {
    const sftp = await openSession(client, config, server.login)
    const session = new SftpSession(sftp)
    const end = (reason: string) => {
      session.end(reason)
      client.end()
    }
    client.on('error', (error) => end(error.message))
    client.on('close', () => end('the connection was closed'))
    sftp.on('error', (error: Error) => end(error.message))
    sftp.on('close', () => end('the server ended the session'))
    return {
      session,
      async close() {
        session.end('the store was closed')
        client.end()
        // The answer to a goodbye is a courtesy that a dead network does not pay.
        client.destroy()
        await closed
      },
    }
  } catch (error) {
    client.destroy()
    if (shown.key !== null && !rule.accepts(shown.key)) throw wrongHostKey(server, rule, shown.key, error)
    throw connectError(server, error)
  }
}

/** The key that a server shows, without logging in or trusting it. Rejects with `storage-unavailable`. */
export async function askForHostKey(host: string, port: number): Promise<{ type: string; fingerprint: string }> {
  const client = new ssh2.Client()
  const server = { host, port, user: 'nobody' }
  let shown: Buffer | null = null
  const config = transportConfig(server, null, (key) => {
    shown = key
    return false
  })
  try {
    await ready(client, config)
  } catch (error) {
    if (shown === null) throw connectError(server, error)
  } finally {
    client.destroy()
  }
  return { type: keyTypeOf(shown!), fingerprint: fingerprintOf(shown!) }
}

async function hostKeyRule({ host, port, hostKey }: SftpServer): Promise<HostKeyRule> {
  if (hostKey !== null) {
    if ('fingerprint' in hostKey) return ruleOfFingerprint(hostKey.fingerprint)
    return ruleOfKnownHosts(hostKey.knownHosts, host, port)
  }
  const { type, fingerprint } = await askForHostKey(host, port)
  throw new RegainError(
    'storage-denied',
    `The configuration does not say which host key ${host}:${port} has, so nothing was sent to it. ` +
      `It shows a key of the type ${type} with the fingerprint ${fingerprint}.`,
    {
      hint:
        `Compare that with the fingerprint that the server’s operator gives, then write hostKey: "${fingerprint}", ` +
        'or let regain init write it.',
    },
  )
}

function transportConfig(
  { host, port, user }: Pick<SftpServer, 'host' | 'port' | 'user'>,
  keyTypes: readonly string[] | null,
  accepts: (key: Buffer) => boolean,
): ConnectConfig {
  return {
    host,
    port,
    username: user,
    readyTimeout: CONNECT_TIMEOUT_MS,
    keepaliveInterval: KEEPALIVE_INTERVAL_MS,
    keepaliveCountMax: KEEPALIVE_COUNT,
    hostVerifier: accepts,
    algorithms: {
      // SHA-1 proves nothing any more: neither a host's key nor a packet.
      serverHostKey: (keyTypes ?? HOST_KEY_TYPES).flatMap((type) => SIGNATURES[type] ?? []) as never,
      hmac: { remove: [/sha1/, /md5/], append: [], prepend: [] } as never,
    },
  }
}

const HOST_KEY_TYPES = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'ssh-rsa']

/** How a key of each type may sign. */
const SIGNATURES: Record<string, string[]> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
}

/** Read anew for each connection: a key that was replaced is found, and none stays in memory. */
async function loginConfig({ login }: SftpServer): Promise<ConnectConfig> {
  if (login.kind === 'agent') return { agent: login.socket }
  if (login.kind === 'password') return { password: login.password, tryKeyboard: true }
  const { path, passphrase } = login
  const privateKey = await readIdentity(path)
  const parsed = ssh2.utils.parseKey(privateKey, passphrase)
  if (parsed instanceof Error) {
    throw new RegainError('storage-denied', `The private key ${path} cannot be used: ${parsed.message}.`, {
      hint: 'Name a private key in OpenSSH’s or PEM form, and its passphrase if it has one.',
    })
  }
  return { privateKey, ...(passphrase === undefined ? {} : { passphrase }) }
}

async function readIdentity(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    const why = errnoName(error) ?? String(error)
    throw new RegainError('storage-denied', `The private key ${path} cannot be read (${why}).`, {
      cause: error,
      hint: 'Correct identity in the configuration, or give this user the right to read the file.',
    })
  }
}

async function openSession(client: Client, config: ConnectConfig, login: SftpLogin): Promise<SFTPWrapper> {
  if (login.kind === 'password') {
    // Servers that ask instead of taking a password: one question is for it, several are not.
    client.on('keyboard-interactive', (_name, _instructions, _language, prompts, finish) =>
      finish(prompts.length === 1 ? [login.password] : []),
    )
  }
  await ready(client, config)
  return new Promise((resolve, reject) => {
    client.once('close', () => reject(new Error('the connection was closed')))
    client.sftp((error, sftp) => (error ? reject(error) : resolve(sftp)))
  })
}

function ready(client: Client, config: ConnectConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    // Stays for as long as the client does: what fails later fails the requests, and must not end the process.
    client.on('error', reject)
    client.once('close', () => reject(new Error('the connection was closed')))
    client.once('ready', () => resolve())
    client.connect(config)
    // Requests are small and each waits for an answer: with Nagle's algorithm every one takes 40 milliseconds more.
    client.setNoDelay(true)
  })
}

function wrongHostKey(server: SftpServer, rule: HostKeyRule, key: Buffer, cause: unknown): RegainError {
  return new RegainError(
    'storage-denied',
    `${server.host}:${server.port} shows a host key of the type ${keyTypeOf(key)} with the fingerprint ` +
      `${fingerprintOf(key)}. It is not ${rule.expected}: someone may be answering in the server’s place. ` +
      'Nothing was sent to it, and the backups that it holds are not affected.',
    {
      cause,
      hint: 'Ask the server’s operator whether its key was changed, and correct the configuration only then.',
    },
  )
}

function connectError({ host, port, user }: Pick<SftpServer, 'host' | 'port' | 'user'>, error: unknown): unknown {
  if (error instanceof RegainError || !(error instanceof Error)) return error
  if ('level' in error && error.level === 'client-authentication') {
    return new RegainError('storage-denied', `${host}:${port} does not let the user ${user} in (${error.message}).`, {
      cause: error,
      hint: 'Check user and login in the configuration, and that the server knows this key.',
    })
  }
  const why = error.message === '' ? errnoName(error) : error.message
  const message = `No SFTP session with ${host}:${port} could be opened (${why}).`
  // No request was sent yet.
  return markNotApplied(new RegainError('storage-unavailable', message, { cause: error }))
}
