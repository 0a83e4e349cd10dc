import { createHash } from 'node:crypto'
import { RegainError } from '../errors.ts'

/**
 * The name of a KEK that never leaves its service (docs/format.md, Keys): a hash of where it is, since there are no bytes
 * to make an HMAC with. It tells KEKs apart and decides nothing.
 */
export function serviceKekName(type: string, ...place: string[]): string {
  return createHash('sha256')
    .update(JSON.stringify(['regain kek id', type, ...place]))
    .digest('hex')
    .slice(0, 16)
}

/** Throws `config-invalid` unless a key service is reached over https, or on this machine itself (RFC 6761, RFC 1122). */
export function requireSafeAddress(address: string, description: string): URL {
  const url = URL.canParse(address) ? new URL(address) : null
  const isLoopback =
    url !== null && (/^(localhost|\[::1\])$/.test(url.hostname) || /^127\.\d+\.\d+\.\d+$/.test(url.hostname))
  if (url !== null && (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback))) return url
  throw new RegainError(
    'config-invalid',
    `${description} must be reached over https: its answers hold the keys to backups. Nothing was sent.`,
    { hint: 'Write an address that begins with https://; http:// is only for this machine itself (127.0.0.1).' },
  )
}

export function unavailable(description: string, problem: string, cause?: unknown): RegainError {
  return new RegainError('key-unavailable', `${description} ${problem}. Nothing was changed.`, {
    ...(cause === undefined ? {} : { cause }),
    hint: 'Check that the service answers and that this machine may use the key. What runs already is not affected.',
  })
}
