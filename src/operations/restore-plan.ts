import { join, resolve } from 'node:path'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import { claimedOf } from '../filesystem/target-claim.ts'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import type { Application, Reporting, TargetPlan } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { formatMoment, refuseLogChoice } from './moments.ts'
import { withRepository } from './repositories.ts'
import { checkEmpty, holdsAnything, refuseOwnFolders } from './restore-directory.ts'
import { findStart, type Start } from './restore-start.ts'
import { selectTarget } from './targets.ts'
import { isTenantSource } from './tenants.ts'

export interface RestoreRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  /** Directory, relative to the working directory or absolute. */
  to: string
  at: RestoreMoment
  /** Glob over paths. */
  path: string | null
  start: boolean
  /** Over what is in the directory. */
  inPlace?: boolean
  /** Folders for tablespaces, by oid or by the original's folder. */
  tablespaces?: Record<string, string>
  /** A whole cluster with the content of these databases alone. */
  onlyDatabases?: readonly string[]
  /** Where to read from; any destination that has the point if undefined. */
  destination?: string
}

/** What will be done, decided and checked before anything is written. */
export interface RestorePlan {
  service: string
  at: string
  /** Absolute; what the parts' directories are, or lie in. */
  root: string
  parts: RestorePart[]
}

export interface RestorePart {
  service: ServiceConfiguration
  source: SourceConfiguration
  destination: DestinationConfiguration
  point: Point
  /** Absolute; absent or empty when the plan was made, unless `inPlace`. */
  directory: string
  /** What is in the directory is written over. False if there was nothing, whatever was asked for. */
  inPlace: boolean
  tablespaces: Record<string, string>
  /** Empty: all. */
  onlyDatabases: readonly string[]
  at: RestoreMoment
  path: string | null
  start: boolean
  /** RFC 3339 UTC: points and log reach this far. */
  until: string
  /** Log that is replayed at the most. */
  logBytes: number
  /** For people, in order. */
  steps: string[]
}

/**
 * Makes the plan of a restore: which point, from where, to where. Rejects if a target holds anything
 * (`target-not-empty`) and is not to be written over, if that can't be (`precondition-failed`), or if a source has no point that can serve (`point-not-found`, `moment-unreachable`).
 */
export async function planRestore(
  application: Application,
  request: RestoreRequest,
  reporting: Reporting,
): Promise<RestorePlan> {
  const root = targetDirectory(request.to)
  const target = selectTarget(application.config, request.target)
  const isSingle = target.sources.length === 1
  checkCombination(request, target.sources)
  const isOver = request.inPlace === true && (await holdsAnything(root))
  if (isOver) await refuseOwnFolders(application, root)
  else await checkEmpty(root)

  const parts: RestorePart[] = []
  for (const source of target.sources) {
    const start = await findStart(application, target.service, source, request, reporting)
    const { point, destination } = start
    const directory = isSingle ? root : join(root, source.name)
    const inPlace = isOver && (await holdsAnything(directory))
    const name = `${target.service.name}/${source.name}`
    const tablespaces = request.tablespaces ?? {}
    const resumes = inPlace ? claimedOf(directory) === name : null
    const place = await application.drivers.planTarget(source, point, { directory, tablespaces, resumes })
    for (const path of place.beside) await checkEmpty(path)
    const part = {
      service: target.service,
      source,
      destination,
      point,
      directory,
      inPlace,
      tablespaces,
      onlyDatabases: request.onlyDatabases ?? [],
      // The point has been chosen; a driver with a log needs to know that it must stop there.
      at: request.at.kind === 'point' ? { kind: 'point' as const, id: point.id } : request.at,
      path: request.path,
      start: request.start && source.type === 'postgres',
      until: start.until,
      logBytes: start.logBytes,
    }
    const leftOut = await leftOutOf(application, part, reporting.signal)
    parts.push({ ...part, steps: describeSteps(part, start, { ...place, steps: [...leftOut, ...place.steps] }) })
  }
  return { service: target.service.name, at: formatMoment(request.at), root, parts }
}

/** What is left out of a cluster that gets the content of some databases alone; rejects if it has no such database. */
async function leftOutOf(
  application: Application,
  part: Pick<RestorePart, 'service' | 'source' | 'destination' | 'point' | 'onlyDatabases'>,
  signal: AbortSignal,
): Promise<string[]> {
  const { service, source, destination, point, onlyDatabases } = part
  if (onlyDatabases.length === 0) return []
  const names = await withRepository(application, service, destination, async (repository) => {
    const reader = await repository.openPoint(point.id, { signal })
    try {
      return await application.drivers.leftOutBeside(source, reader, onlyDatabases, signal)
    } finally {
      await reader.close()
    }
  })
  return names.length === 0 ? [] : [`leave out the content of ${names.join(', ')}`]
}

function targetDirectory(to: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(to)) {
    throw notInThisVersion(
      'Restoring a whole source into a running server (--to URL)',
      'Name a new directory: --to /srv/restored; or what to restore there: --table, --schema or --database.',
    )
  }
  if (to === '') throw new RegainError('usage', '--to needs a directory.')
  return resolve(to)
}

function checkCombination(request: RestoreRequest, sources: SourceConfiguration[]): void {
  const { kind } = request.at
  const types = new Set(sources.map((source) => source.type))
  if (sources.length > 1 && kind !== 'latest' && kind !== 'time') {
    throw new RegainError(
      'usage',
      `${formatMoment(request.at)} is a moment of one source, and ${request.target} has several.`,
      {
        hint: `Name the source: ${sources.map((source) => `${request.target}/${source.name}`).join(', ')}`,
      },
    )
  }
  if (!types.has('postgres') && (kind === 'lsn' || kind === 'xid' || kind === 'name')) {
    throw new RegainError('usage', `${formatMoment(request.at)} is a moment of a log; ${request.target} has none.`)
  }
  for (const { type } of sources) refuseLogChoice(request.at, type, request.target)
  if (request.start && !types.has('postgres')) {
    throw new RegainError(
      'usage',
      `--start starts a recovered server, and ${request.target} holds none. Nothing was done.`,
    )
  }
  if (Object.keys(request.tablespaces ?? {}).length > 0 && (sources.length > 1 || !types.has('postgres'))) {
    throw new RegainError('usage', '--tablespace is for one database. Nothing was done.')
  }
  if ((request.onlyDatabases ?? []).length > 0) {
    if (sources.length > 1 || !types.has('postgres'))
      throw new RegainError('usage', '--only-database is for one PostgreSQL cluster. Nothing was done.')
    if (request.inPlace) {
      throw new RegainError('usage', '--only-database would empty the other databases in place. Nothing was done.', {
        hint: 'Restore it into a new directory, or bring that database back alone: --database NAME --to FILE.',
      })
    }
  }
  if (request.path !== null && [...types].some((type) => type !== 'files')) {
    throw new RegainError('usage', '--path selects files; a database is restored whole. Nothing was done.', {
      hint: `Name a source of files, such as ${request.target.split('/')[0]}/files.`,
    })
  }
}

function describeSteps(part: Omit<RestorePart, 'steps'>, { until, notes }: Start, place: TargetPlan): string[] {
  const { point, destination, directory, source, at } = part
  const amountOf = `${amount(point.entries, 'entry', 'entries')}, ${amount(point.bytes.source, 'byte', 'bytes')}`
  const what = part.path === null ? amountOf : `the entries that match ${part.path}`
  const steps = [
    `open the repository of ${part.service.name} at ${destination.name} and pin the point ${point.id}, committed at ${point.committedAt}`,
    ...(part.inPlace
      ? [
          'look up all that it needs: every pack must be there, with its size, or nothing is changed',
          `WRITE OVER what is in ${directory}: read all of it, write what differs of ${what}${part.path === null ? ', and remove what the point does not have' : ''}`,
        ]
      : [`write ${what}, to ${directory}, checking every chunk`]),
    ...place.steps,
  ]
  if (!point.complete)
    steps.push(
      `name what the point itself lacks: ${amount(point.missedCount, 'thing was', 'things were')} missed when it was taken`,
    )
  if (source.type === 'postgres') {
    steps.push(`make it recover to ${formatMoment(at)} from the log in the repository, which reaches ${until}`)
    if (part.start) steps.push('start a server on it and report the moment really reached')
  }
  if (isTenantSource(source))
    steps.push(
      `know that: no rows of tenants are in it, only which tenants there are: each is restored by regain restore ${part.service.name}/${source.name} --tenant NAME`,
    )
  const unread = part.inPlace
    ? [
        `whether what is stored is sound shows only as it is read, when there is no way back: first run regain verify ${part.service.name}/${source.name} --read-data`,
      ]
    : []
  steps.push(...[...unread, ...place.notes, ...notes].map((note) => `know that: ${note}`))
  return steps
}

function amount(count: number, one: string, many: string): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`
}
