/** What is wrong with the URL of a store; null if nothing is. TLS is required for all but this machine itself. */
export function endpointProblem(text: string): 'not a URL' | 'clear text' | null {
  // A reference that could not be resolved stays as written; whoever needs the value says so then.
  if (text.includes('${')) return null
  if (!URL.canParse(text)) return 'not a URL'
  const { protocol, hostname, username, password, search } = new URL(text)
  if (username !== '' || password !== '' || search !== '') return 'not a URL'
  if (protocol === 'https:') return null
  if (protocol !== 'http:') return 'not a URL'
  return isLoopback(hostname) ? null : 'clear text'
}

/** Only what can not be resolved to another machine: 127.0.0.0/8, ::1 and the name localhost (RFC 6761). */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
