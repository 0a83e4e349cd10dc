import { dirname, join, resolve } from 'node:path'
import { cronProblem, timeZoneProblem } from '../policy/schedule.ts'
import { parseByteCount } from './byte-count.ts'
import type {
  Configuration,
  DestinationConfiguration,
  KeyConfiguration,
  ServiceConfiguration,
  SourceConfiguration,
} from './configuration.ts'
import { CREDENTIALS, loginProblem, resolveDestination } from './destinations.ts'
import { parseDuration } from './duration.ts'
import {
  invalidConfiguration,
  type Mistake,
  offsetOfKey,
  offsetOfValue,
  type ParsedFile,
  type Path,
  pathText,
  placeOf,
} from './mistakes.ts'
import { collectNotes } from './notes.ts'
import type { References } from './references.ts'
import { resolveKey } from './resolve-key.ts'
import { retentionOf } from './retention.ts'
import type { WrittenConfiguration, WrittenRetention, WrittenService } from './schema.ts'
import { showConfiguration } from './show.ts'
import { suggestion } from './suggest.ts'
import { parseWindow } from './window.ts'

/** When `regain serve` removes what is not kept, unless the schedule says otherwise: after the usual hour of backups. */
const DAILY = '30 4 * * *'
const KEEPS_NOTHING =
  'keeps nothing: name at least one of last, within, daily, weekly, monthly, yearly; or write retention: keep-all'

interface Input {
  file: ParsedFile
  references: References
  environment: Readonly<Record<string, string | undefined>>
  written: WrittenConfiguration
}

/** Makes a configuration ready for use; rejects what the schema cannot see: names without a definition, wrong times. */
export function resolveConfiguration(input: Input): Configuration {
  const { file, references, written } = input
  const directory = dirname(file.path)
  const mistakes: Mistake[] = [...references.mistakes]
  const lacking = deferMissing(file, references, mistakes)

  const configuration: Configuration = {
    path: file.path,
    state: resolve(directory, written.state ?? defaultState(input.environment)),
    destinations: mapNamed(written.destinations, (name, destination): DestinationConfiguration => {
      const problem = loginProblem(destination)
      if (problem !== null) report(['destinations', name], problem, true)
      return { name, ...lacking(['destinations', name]), ...resolveDestination(destination, directory) }
    }),
    keys: mapNamed(written.keys, (name, key): KeyConfiguration => {
      const common = { name, ...lacking(['keys', name]) }
      return { ...common, ...resolveKey(key, directory, (message) => report(['keys', name], message, true)) }
    }),
    services: mapNamed(written.services, (name, service) => resolveService(name, service)),
    warnings: collectNotes(file, references, written),
    shown: showConfiguration(written, references.written),
  }
  if (mistakes.length > 0) throw invalidConfiguration(file, mistakes)
  return configuration

  function resolveService(name: string, service: WrittenService): ServiceConfiguration {
    const at = (...path: (string | number)[]): Path => ['services', name, ...path]
    if (Object.keys(service.sources).length === 0) report(at('sources'), 'needs at least one source')
    return {
      name,
      owner: service.owner,
      environment: service.environment,
      compliance: service.compliance ?? [],
      objectives: {
        rpoMs: optionalMs(service.objectives?.rpo),
        rtoMs: optionalMs(service.objectives?.rto),
      },
      key: keyOf(service, at('key')),
      destinations: destinationsOf(service, at('destinations')),
      sources: mapNamed(service.sources, (source, settings): SourceConfiguration => {
        const place = placeOf(file, offsetOfKey(file, at('sources', source)))
        const common = { name: source, place, ...lacking(at('sources', source)) }
        if (settings.type === 'files') {
          const { retention: _, ...rest } = settings
          return { ...common, ...rest, paths: settings.paths.map((path) => resolve(directory, path)) }
        }
        if (settings.type === 'postgres-tenants') {
          const { retention: _, tenants: rules, ...rest } = settings
          return { ...common, ...rest, rules }
        }
        const { programs, retention: _, ...rest } = settings
        const found = programs === undefined ? {} : { programs: resolve(directory, programs) }
        if (rest.type === 'postgres-dump') return { ...common, ...rest, databases: rest.databases ?? [], ...found }
        const { tail, slotLimit, ...others } = rest
        return {
          ...common,
          ...others,
          ...found,
          tailMs: parseDuration(tail)!,
          slotLimit: slotLimit === 'auto' || slotLimit === 'never' ? slotLimit : parseByteCount(slotLimit)!,
        }
      }),
      schedule: scheduleOf(service, at('schedule')),
      retention: retentionsOf(service, at('retention')),
      limits: serviceLimits(service),
      drills: service.drills && drillsOf(service.drills, at('drills', 'schedule')),
    }
  }

  /** What is lacking from settings is reported where their name stands; all else at the value. */
  function report(path: Path, message: string, isLacking = false): void {
    const offset = isLacking ? offsetOfKey(file, path) : offsetOfValue(file, path)
    mistakes.push({ offset, message: `${pathText(path)}: ${message}` })
  }

  function keyOf(service: WrittenService, path: Path): string {
    const names = Object.keys(written.keys)
    if (service.key === undefined) {
      if (names.length !== 1)
        report(path.slice(0, -1), `needs key: one of ${names.join(', ') || 'keys, which is empty'}`, true)
      return names[0] ?? ''
    }
    if (!names.includes(service.key)) report(path, `there is no key "${service.key}"${suggestion(service.key, names)}`)
    return service.key
  }

  function destinationsOf(service: WrittenService, path: Path): string[] {
    const names = Object.keys(written.destinations)
    const used = service.destinations ?? names
    if (used.length === 0) report(path.slice(0, -1), 'needs a destination, and destinations is empty', true)
    for (const [i, name] of used.entries()) {
      if (!names.includes(name)) report([...path, i], `there is no destination "${name}"${suggestion(name, names)}`)
      if (used.indexOf(name) !== i) report([...path, i], `the destination "${name}" is named twice`)
    }
    return used
  }

  function scheduleOf(service: WrittenService, path: Path): ServiceConfiguration['schedule'] {
    const timezone = service.schedule?.timezone ?? 'UTC'
    const zoneProblem = timeZoneProblem(timezone)
    if (zoneProblem !== null) report([...path, 'timezone'], zoneProblem)
    for (const kind of ['full', 'incremental'] as const) {
      const expression = service.schedule?.[kind]
      if (expression !== undefined) checkCron(expression, zoneProblem === null ? timezone : 'UTC', [...path, kind])
    }
    const { full, incremental, prune = DAILY } = service.schedule ?? {}
    if (prune !== 'none' && prune !== DAILY)
      checkCron(prune, zoneProblem === null ? timezone : 'UTC', [...path, 'prune'], '; or none')
    return { full, incremental, prune: prune === 'none' ? null : prune, timezone }
  }

  /** A source's own rules stand in the place of the service's. */
  function retentionsOf(service: WrittenService, path: Path): ServiceConfiguration['retention'] {
    const zone = service.schedule?.timezone ?? 'UTC'
    const timeZone = timeZoneProblem(zone) === null ? zone : 'UTC'
    const read = (written: WrittenRetention | undefined, where: Path) => {
      if (written === undefined) return null
      const rules = retentionOf(written, timeZone)
      if (rules === null) report(where, KEEPS_NOTHING)
      return rules
    }
    const common = read(service.retention, path)
    const retention: ServiceConfiguration['retention'] = {}
    for (const [name, source] of Object.entries(service.sources)) {
      const own =
        source.retention === undefined
          ? common
          : read(source.retention, ['services', path[1]!, 'sources', name, 'retention'])
      if (own !== null) retention[name] = own
    }
    return retention
  }

  function drillsOf(drills: NonNullable<WrittenService['drills']>, path: Path): ServiceConfiguration['drills'] {
    checkCron(drills.schedule, 'UTC', path)
    return { schedule: drills.schedule, checks: drills.checks }
  }

  function checkCron(expression: string, timezone: string, path: Path, besides = ''): void {
    const problem = cronProblem(expression, timezone)
    if (problem !== null) report(path, `${problem}${besides}`)
  }
}

/**
 * Missing references of a source, a key or credentials are kept for whoever needs that part; all others are mistakes now. Gives what
 * to lay over the part at a path.
 */
function deferMissing(
  file: ParsedFile,
  references: References,
  mistakes: Mistake[],
): (path: Path) => { unresolved?: string } {
  const isDeferred = (path: Path) =>
    path[0] === 'keys' ||
    (path[0] === 'services' && path[2] === 'sources') ||
    (path[0] === 'destinations' && CREDENTIALS.includes(String(path[2])))
  mistakes.push(...references.missing.filter(({ path }) => !isDeferred(path)))
  return (path) => {
    const own = references.missing.find((missing) => path.every((part, i) => missing.path[i] === part))
    return own === undefined ? {} : { unresolved: `${placeOf(file, own.offset)}: ${own.message}` }
  }
}

function serviceLimits({ limits }: WrittenService): ServiceConfiguration['limits'] {
  const { cpu, busy, read, window } = limits ?? {}
  return {
    ...(cpu === undefined ? {} : { cpuShare: Number.parseInt(cpu, 10) / 100 }),
    ...(busy === undefined ? {} : { busyShare: Number.parseInt(busy, 10) / 100 }),
    ...(read === undefined ? {} : { readBytesPerSecond: parseByteCount(read)! }),
    window: window === undefined ? null : parseWindow(window),
  }
}

function defaultState(environment: Readonly<Record<string, string | undefined>>): string {
  if (environment.XDG_STATE_HOME) return join(environment.XDG_STATE_HOME, 'regain')
  // A system service often has no home.
  return environment.HOME ? join(environment.HOME, '.local/state/regain') : '/var/lib/regain'
}

function optionalMs(text: string | undefined): number | undefined {
  return text === undefined ? undefined : (parseDuration(text) ?? undefined)
}

function mapNamed<From, To>(record: Record<string, From>, map: (name: string, value: From) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(name, value)]))
}
