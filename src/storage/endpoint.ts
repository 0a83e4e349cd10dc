import { RegainError } from '../errors.ts'

/** Throws `config-invalid` unless the URL of a store is https, or http to this machine itself. */
export function refuseClearText(url: string, description: string): void {
  const { protocol, hostname } = new URL(url)
  if (protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))) return
  throw new RegainError(
    'config-invalid',
    `${description} would be reached over ${protocol}//, which sends credentials in clear text. Nothing was sent.`,
    { hint: 'Use https. http is only for this machine itself (127.0.0.1).' },
  )
}

/** Only what can not be resolved to another machine: 127.0.0.0/8, ::1 and the name localhost (RFC 6761). */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
