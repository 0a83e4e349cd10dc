import { stringify } from 'yaml'
import { pathText } from './mistakes.ts'
import { isSecretSetting } from './references.ts'
import type { WrittenConfiguration } from './schema.ts'
import { parseUrlOfHosts, urlOfHostsText } from './several-hosts.ts'

const MASK = '***'

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

/** A URL without its password; anything else that is secret becomes the mask altogether. */
function maskSecret(setting: string, text: string): string {
  const parsed = setting === 'url' ? parseUrlOfHosts(text) : null
  if (parsed === null) return MASK
  const { url } = parsed
  if (url.password !== '') url.password = MASK
  for (const parameter of ['password', 'sslpassword']) {
    if (url.searchParams.has(parameter)) url.searchParams.set(parameter, MASK)
  }
  return urlOfHostsText(parsed)
}

/** True if the secret setting's text carries the secret itself. */
export function holdsSecret(setting: string, text: string): boolean {
  const parsed = parseUrlOfHosts(text)
  return parsed === null || maskSecret(setting, text) !== urlOfHostsText(parsed)
}
