import type { ConfigurationNote } from './configuration.ts'
import { offsetOfKey, type ParsedFile, type Path, pathText, placeOf } from './mistakes.ts'
import { isSecretSetting, type References } from './references.ts'
import type { WrittenConfiguration, WrittenService } from './schema.ts'
import { holdsSecret } from './show.ts'

/** Settings of a service that the file format has and this version does not act on, with what that means. */
const NOT_ACTED_ON: Partial<Record<keyof WrittenService, string>> = {
  environment: 'written down only: this version does not check the rules of an environment',
  compliance: 'not acted on by this version: no legal limit is enforced, no erasure is applied to restores',
  objectives: 'not acted on by this version: nothing compares them with what is reached, and nobody is alerted',
  drills: 'not acted on by this version: no drill runs. Until one does, prove restores by hand with regain restore',
}

const NO_RETENTION =
  'has no retention rules, and backups without them are refused: write retention: standard (or rules of your own, or keep-all)'

/** What a person should know about a valid configuration: what is not acted on, what is unprotected, what is unsafe. */
export function collectNotes(
  file: ParsedFile,
  references: References,
  written: WrittenConfiguration,
): ConfigurationNote[] {
  const notes: ConfigurationNote[] = []
  const note = (path: Path, message: string, service?: string, more: Pick<ConfigurationNote, 'isRefused'> = {}) =>
    notes.push({
      place: placeOf(file, offsetOfKey(file, path)),
      ...(service === undefined ? {} : { service }),
      message: `${pathText(path)}: ${message}`,
      ...more,
    })

  if (Object.keys(written.services).length === 0) note(['services'], 'nothing is protected: there is no service')
  for (const [name, service] of Object.entries(written.services)) {
    const at = ['services', name]
    for (const [setting, meaning] of Object.entries(NOT_ACTED_ON)) {
      if (service[setting as keyof WrittenService] !== undefined) note([...at, setting], meaning, name)
    }
    for (const [source, settings] of Object.entries(service.sources)) {
      if ((settings.retention ?? service.retention) === undefined) {
        note([...at, 'sources', source], NO_RETENTION, name, { isRefused: true })
      }
    }
    if (service.schedule?.full === undefined && service.schedule?.incremental === undefined) {
      note(at, 'has no schedule: there is a new point only when someone runs regain backup', name)
    }
  }
  visit(written, [])
  return notes

  function visit(value: unknown, path: (string | number)[]): void {
    if (typeof value === 'object' && value !== null) {
      for (const [key, item] of Object.entries(value)) visit(item, [...path, key])
      return
    }
    if (!isSecretSetting(String(path.at(-1))) || references.written.has(pathText(path))) return
    if (holdsSecret(String(path.at(-1)), String(value))) {
      note(path, 'a secret stands in the file. Move it to the environment (${NAME}) or to a file (file:PATH)')
    }
  }
}
