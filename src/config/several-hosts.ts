/**
 * A URL whose place for the host may name several of them, with ports, as PostgreSQL's do: what WHATWG's parser takes for a
 * wrong port. Null if it is no URL.
 */
export interface UrlOfHosts {
  /** With `HOSTS` in the place of its hosts. */
  url: URL
  /** As they are written: 'one:5432,other:5432'. */
  hosts: string
}

const HOSTS = 'hosts'

export function parseUrlOfHosts(text: string): UrlOfHosts | null {
  const match = /^([a-z][a-z0-9+.-]*:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/s.exec(text)
  if (!match) return null
  const [, before = '', hosts = '', behind = ''] = match
  // One host is the parser's own business, ports and addresses included.
  if (!hosts.includes(',')) return URL.canParse(text) ? { url: new URL(text), hosts: '' } : null
  if (!hosts.split(',').every((host) => URL.canParse(`${before}${host}${behind}`))) return null
  return { url: new URL(`${before}${HOSTS}${behind}`), hosts }
}

export function urlOfHostsText({ url, hosts }: UrlOfHosts): string {
  const text = url.toString()
  if (hosts === '') return text
  const at = text.indexOf(HOSTS, text.indexOf('@') + 1 || text.indexOf('//'))
  return `${text.slice(0, at)}${hosts}${text.slice(at + HOSTS.length)}`
}
