import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { RegainError } from '../errors.ts'
import { errnoName } from '../filesystem/durable.ts'

/** Which host keys a server may show: what stands between a backup and whoever answers in the server's place. */
export interface HostKeyRule {
  /** Kinds of keys to ask the server for; null: any, because only the fingerprint is known. */
  readonly keyTypes: readonly string[] | null
  accepts(key: Buffer): boolean
  /** Ends the sentence 'It is not …'. */
  readonly expected: string
}

/** As ssh-keygen -l prints it: 'SHA256:' and the hash in base64 without padding. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** 'ssh-ed25519': a key in SSH's own form begins with its type (RFC 4253, section 6.6). */
export function keyTypeOf(key: Buffer): string {
  const length = key.length < 4 ? 0 : key.readUInt32BE(0)
  return key.subarray(4, 4 + Math.min(length, 64)).toString('latin1')
}

export function ruleOfFingerprint(fingerprint: string): HostKeyRule {
  const expected = fingerprint.replace(/=+$/, '')
  return {
    keyTypes: null,
    expected: `the one with the fingerprint ${expected}, which the configuration names`,
    accepts: (key) => fingerprintOf(key) === expected,
  }
}

/** Rejects with `storage-denied` if the file cannot be read or holds no key of this server. */
export async function ruleOfKnownHosts(path: string, host: string, port: number): Promise<HostKeyRule> {
  const { accepted, revoked } = findKnownHosts(await readKnownHosts(path), host, port)
  const usable = accepted.filter((key) => !revoked.some((other) => other.equals(key)))
  if (usable.length === 0) {
    throw new RegainError('storage-denied', `${path} holds no key of ${host}:${port}. Nothing was sent to it.`, {
      hint: 'Compare the fingerprint with the one that the server’s operator gives, and add the key to the file.',
    })
  }
  return {
    keyTypes: [...new Set(usable.map(keyTypeOf))],
    expected: `one that ${path} knows for this server`,
    accepts: (key) => usable.some((known) => known.equals(key)),
  }
}

/** Keys of a server in the text of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export function findKnownHosts(text: string, host: string, port: number): { accepted: Buffer[]; revoked: Buffer[] } {
  const found = { accepted: [] as Buffer[], revoked: [] as Buffer[] }
  const name = (port === 22 ? host : `[${host}]:${port}`).toLowerCase()
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/)
    if (fields[0] === '' || fields[0]!.startsWith('#')) continue
    const marker = fields[0]!.startsWith('@') ? fields.shift() : undefined
    const [patterns, , key] = fields
    // A certificate authority's key is not a host's; certificates are not understood here.
    if (patterns === undefined || key === undefined || marker === '@cert-authority') continue
    if (!matches(patterns, name)) continue
    if (marker === undefined) found.accepted.push(Buffer.from(key, 'base64'))
    else if (marker === '@revoked') found.revoked.push(Buffer.from(key, 'base64'))
  }
  return found
}

function matches(patterns: string, name: string): boolean {
  if (patterns.startsWith('|')) return matchesHash(patterns, name)
  const list = patterns.toLowerCase().split(',')
  if (list.some((pattern) => pattern.startsWith('!') && matchesWildcard(pattern.slice(1), name))) return false
  return list.some((pattern) => matchesWildcard(pattern, name))
}

/** '|1|salt|hash': HMAC-SHA-1 of the name under the salt, so that the file does not tell which hosts are known. */
function matchesHash(pattern: string, name: string): boolean {
  const [, version, salt, hash] = pattern.split('|')
  if (version !== '1' || salt === undefined || hash === undefined) return false
  const expected = Buffer.from(hash, 'base64')
  const actual = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest()
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}

function matchesWildcard(pattern: string, name: string): boolean {
  const expression = pattern
    .replace(/[\\^$.|+()[\]{}]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${expression}$`).test(name)
}

async function readKnownHosts(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const why = errnoName(error) ?? String(error)
    throw new RegainError('storage-denied', `The file of known hosts ${path} cannot be read (${why}).`, {
      cause: error,
      hint: 'Correct knownHosts in the configuration.',
    })
  }
}
