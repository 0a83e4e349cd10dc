import { resolve } from 'node:path'
import { parseByteCount } from './byte-count.ts'
import type {
  AzureDestination,
  GcsDestination,
  S3Destination,
  SftpDestination,
  TransferLimits,
} from './configuration.ts'
import { parseDuration } from './duration.ts'
import type { WrittenDestination } from './schema.ts'

type Written<Type> = Extract<WrittenDestination, { type: Type }>
type Resolved<Destination> = Omit<Destination, 'name' | 'unresolved'>

/** Of destinations: where they are not at hand, another destination may still be used. */
export const CREDENTIALS = [
  'accessKeyId',
  'secretAccessKey',
  'sessionToken',
  'account',
  'accountKey',
  'sas',
  'connectionString',
  'passphrase',
  'agent',
  'password',
]

/** What is wrong with the settings that say who logs in and how; null if nothing is. */
export function loginProblem(destination: WrittenDestination): string | null {
  if (destination.type === 's3') {
    const isHalf = (destination.accessKeyId === undefined) !== (destination.secretAccessKey === undefined)
    return isHalf ? 'accessKeyId and secretAccessKey go together: write both or neither' : null
  }
  if (destination.type === 'azure') return azureProblem(destination)
  return destination.type === 'sftp' ? sftpProblem(destination) : null
}

/** Ready for use, but for its name. Its login has no problem, or the configuration is refused. */
export function resolveDestination(written: WrittenDestination, directory: string) {
  switch (written.type) {
    case 'local':
      return { type: written.type, path: resolve(directory, written.path) }
    case 's3':
      return resolveS3(written, directory)
    case 'azure':
      return resolveAzure(written)
    case 'gcs':
      return resolveGcs(written, directory)
    case 'sftp':
      return resolveSftp(written, directory)
  }
}

function resolveS3(written: Written<'s3'>, directory: string): Resolved<S3Destination> {
  const { ca, immutable, limits, accessKeyId, secretAccessKey, sessionToken, ...rest } = written
  const token = sessionToken === undefined ? {} : { sessionToken }
  return {
    ...rest,
    ...(ca === undefined ? {} : { ca: resolve(directory, ca) }),
    ...(immutable === undefined ? {} : { immutableMs: parseDuration(immutable)! }),
    credentials:
      accessKeyId === undefined || secretAccessKey === undefined ? null : { accessKeyId, secretAccessKey, ...token },
    limits: resolveLimits(limits),
  }
}

function azureProblem({ account, accountKey, sas, connectionString, endpoint }: Written<'azure'>): string | null {
  const ways = [accountKey, sas, connectionString].filter((way) => way !== undefined)
  if (ways.length !== 1) return 'needs exactly one of accountKey, sas and connectionString'
  if (accountKey !== undefined && account === undefined) return 'needs account beside accountKey'
  if (sas !== undefined && account === undefined && endpoint === undefined)
    return 'needs account or endpoint beside sas'
  if (connectionString === undefined || (account === undefined && endpoint === undefined)) return null
  return 'account and endpoint are part of connectionString: remove them'
}

function resolveAzure(written: Written<'azure'>): Resolved<AzureDestination> {
  const { account, accountKey, sas, connectionString, limits, ...rest } = written
  return { ...rest, login: login(), limits: resolveLimits(limits) }

  function login(): AzureDestination['login'] {
    if (connectionString !== undefined) return { kind: 'connection-string', connectionString }
    if (accountKey !== undefined) return { kind: 'account-key', account: account ?? '', accountKey }
    return { kind: 'sas', sas: (sas ?? '').replace(/^\?/, ''), ...(account === undefined ? {} : { account }) }
  }
}

function resolveGcs(written: Written<'gcs'>, directory: string): Resolved<GcsDestination> {
  const { credentials, immutable, limits, ...rest } = written
  return {
    ...rest,
    credentials: credentials === undefined ? null : resolve(directory, credentials),
    ...(immutable === undefined ? {} : { immutableMs: parseDuration(immutable)! }),
    limits: resolveLimits(limits),
  }
}

function sftpProblem({ identity, passphrase, agent, password, hostKey, knownHosts }: Written<'sftp'>): string | null {
  const ways = [identity, agent, password].filter((way) => way !== undefined)
  if (ways.length !== 1) return 'needs exactly one of identity, agent and password'
  if (passphrase !== undefined && identity === undefined) return 'passphrase belongs to identity: remove it'
  if (hostKey !== undefined && knownHosts !== undefined) return 'needs either hostKey or knownHosts, not both'
  return null
}

function resolveSftp(written: Written<'sftp'>, directory: string): Resolved<SftpDestination> {
  const { identity, passphrase, agent, password, hostKey, knownHosts, limits, ...rest } = written
  return { ...rest, login: login(), hostKey: rule(), limits: resolveLimits(limits) }

  function login(): SftpDestination['login'] {
    if (agent !== undefined) return { kind: 'agent', socket: agent }
    if (password !== undefined) return { kind: 'password', password }
    const path = resolve(directory, identity ?? '')
    return { kind: 'identity', path, ...(passphrase === undefined ? {} : { passphrase }) }
  }

  function rule(): SftpDestination['hostKey'] {
    if (hostKey !== undefined) return { fingerprint: hostKey }
    return knownHosts === undefined ? null : { knownHosts: resolve(directory, knownHosts) }
  }
}

function resolveLimits(written: Written<'s3'>['limits']): TransferLimits {
  const { upload, download, requests } = written ?? {}
  return {
    ...(upload === undefined ? {} : { uploadBytesPerSecond: parseByteCount(upload)! }),
    ...(download === undefined ? {} : { downloadBytesPerSecond: parseByteCount(download)! }),
    ...(requests === undefined ? {} : { requestsPerSecond: requests }),
  }
}
