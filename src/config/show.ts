import { stringify } from 'yaml'
import { pathText } from './mistakes.ts'
import { isSecretSetting } from './references.ts'
import type { WrittenConfiguration } from './schema.ts'
import { parseUrlOfHosts, urlOfHostsText } from './several-hosts.ts'

const MASK = '***'

/** Parameters of a PostgreSQL URL that hold no secret. */
const HARMLESS = [
  'application_name',
  'channel_binding',
  'connect_timeout',
  'dbname',
  'host',
  'port',
  'sslcert',
  'sslkey',
  'sslmode',
  'sslrootcert',
  'target_session_attrs',
  'user',
]

/** What is in effect: defaults filled in, references as written, secrets written in the file masked. */
export function showConfiguration(
  written: WrittenConfiguration,
  references: ReadonlyMap<string, string>,
): Record<string, unknown> {
  return show(written, []) as Record<string, unknown>

  function show(value: unknown, path: (string | number)[]): unknown {
    const reference = references.get(pathText(path))
    if (reference !== undefined) return reference
    if (Array.isArray(value)) return value.map((item, i) => show(item, [...path, i]))
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, show(item, [...path, key])]))
    }
    return isSecretSetting(String(path.at(-1))) ? maskSecret(String(path.at(-1)), String(value)) : value
  }
}

/** What showConfiguration gives, as YAML. */
export function shownText(shown: Record<string, unknown>): string {
  return stringify(shown).trimEnd()
}

/** A URL with what in it is known to be harmless; anything else that is secret becomes the mask altogether. */
function maskSecret(setting: string, text: string): string {
  const parsed = setting === 'url' ? parseUrlOfHosts(text) : null
  // An @ behind the hosts: what was taken for them is a piece of a password that is not percent-encoded.
  if (parsed === null || /^[^:]*:\/\/[^/?#]*[/?#].*@/s.test(text)) return MASK
  const { url } = parsed
  if (url.password !== '') url.password = MASK
  if (url.hash !== '') url.hash = MASK
  // By hand, so that what is shown stays as it was written.
  const parameters = url.search.slice(1).split('&').filter(Boolean)
  url.search = parameters.map(maskParameter).join('&')
  return urlOfHostsText(parsed)
}

/** Also a misspelled password is none that may be shown: what is not known is masked. */
function maskParameter(parameter: string): string {
  const [name = '', ...value] = parameter.split('=')
  if (HARMLESS.includes(name)) return parameter
  return value.length === 0 ? MASK : `${name}=${MASK}`
}

/** True if the secret setting's text carries the secret itself. */
export function holdsSecret(setting: string, text: string): boolean {
  const parsed = parseUrlOfHosts(text)
  return parsed === null || maskSecret(setting, text) !== urlOfHostsText(parsed)
}
