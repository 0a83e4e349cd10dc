import { readdir, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import { CLAIM_NAME, claimedOf } from '../filesystem/target-claim.ts'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import type { Application, Reporting, SourceRequest, TargetPlan } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { choosePoint, formatMoment, refuseLogChoice } from './moments.ts'
import { fromReadable } from './points.ts'
import { withRepository } from './repositories.ts'
import { sourceRequest } from './sources.ts'
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

/** Where the restore of one source begins, and how far its log goes. */
export interface Start {
  point: Point
  destination: DestinationConfiguration
  /** RFC 3339 UTC: what is kept reaches this far. */
  until: string
  notes: string[]
  logBytes: number
}

/**
 * Asks every destination; of several that can serve, the one that reaches furthest, and of equals the first of the
 * configuration. When none can, the first reason is told.
 */
export async function findStart(
  application: Application,
  service: ServiceConfiguration,
  source: SourceConfiguration,
  request: Pick<RestoreRequest, 'at' | 'destination'>,
  reporting: Reporting,
): Promise<Start> {
  const starts = await fromReadable<Start | RegainError>(
    application,
    service,
    request.destination,
    reporting,
    async (repository, destination) => {
      const points = await repository.points({ source: source.name })
      const log = repository.log(source.name)
      const asked = sourceRequest(application, { service, source, destination, log })
      try {
        return [await startAt(application, asked, points, request.at, reporting.signal)]
      } catch (error) {
        if (error instanceof RegainError && UNSERVED.includes(error.code)) return [error]
        throw error
      }
    },
  )
  let best: Start | null = null
  for (const start of starts) {
    if (start instanceof RegainError) continue
    if (best === null || start.until > best.until) best = start
  }
  if (best !== null) return best
  throw starts[0]
}

/** What one destination says when another may still serve. */
const UNSERVED = ['point-not-found', 'moment-unreachable']

async function startAt(
  application: Application,
  asked: SourceRequest,
  points: Point[],
  at: RestoreMoment,
  signal: AbortSignal,
): Promise<Start> {
  const name = `${asked.service.name}/${asked.source.name}`
  const { destination } = asked
  const first = points[0]
  if (first === undefined) {
    throw new RegainError('point-not-found', `There is no recovery point of ${name} at ${destination.name}.`, {
      hint: `Take one with: regain backup ${name}`,
    })
  }
  const chosen = choosePoint(points, at)
  if (at.kind === 'point' && chosen === null) {
    throw new RegainError('point-not-found', `${name} has no point whose id begins with ${at.id}.`)
  }
  const whole = at.kind === 'point' ? { kind: 'point' as const, id: chosen!.id } : at
  const plan = await application.drivers.planRecovery(asked, points, whole, signal)
  if (plan !== null) {
    const point = points.find(({ id }) => id === plan.point)!
    return { point, destination, until: plan.until, notes: plan.notes, logBytes: plan.logBytes }
  }
  if (chosen !== null) return { point: chosen, destination, until: chosen.committedAt, notes: [], logBytes: 0 }
  throw new RegainError(
    'moment-unreachable',
    `${name} cannot be brought back to ${formatMoment(at)}: its first point was committed at ${first.committedAt}.`,
  )
}

/** What the point does not have is removed: of all things, that must not be the backups, nor a part of them. */
async function refuseOwnFolders({ config }: Application, root: string): Promise<void> {
  const own = [
    config.path,
    config.state,
    ...Object.values(config.destinations).flatMap((place) => (place.type === 'local' ? [place.path] : [])),
    ...Object.values(config.keys).flatMap((key) => (key.type === 'file' ? [key.path] : [])),
  ]
  const real = (path: string): Promise<string> => realpath(path).catch(() => path)
  const folder = await real(root)
  for (const path of own) {
    const place = await real(path)
    const isHeld = isWithin(place, folder)
    if (!isHeld && !isWithin(folder, place)) continue
    throw new RegainError(
      'precondition-failed',
      `${root} ${isHeld ? 'holds' : 'lies in'} ${path}, which is Regain's own: nothing is written over such a directory. Nothing was changed.`,
      { hint: `Restore into a new directory${isHeld ? ', or name one further down that holds only the data' : ''}.` },
    )
  }
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`)
}

async function holdsAnything(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new RegainError(
      'precondition-failed',
      `${directory} cannot be looked into (${error.code}). Nothing was changed.`,
    )
  })
  return names.length > 0
}

async function checkEmpty(directory: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(directory)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return
    if (code === 'ENOTDIR')
      throw new RegainError('target-not-empty', `${directory} is not a directory. Nothing was changed.`)
    if (code === 'EACCES')
      throw new RegainError('not-permitted', `${directory} may not be read by this user. Nothing was changed.`)
    throw error
  }
  if (names.includes(CLAIM_NAME)) {
    throw new RegainError(
      'target-not-empty',
      `${directory} holds a restore that is under way, or was cut short. Nothing in it was changed.`,
      { hint: 'Wait for it; or, if none is running, empty the directory or name another one with --to.' },
    )
  }
  if (names.length > 0) {
    throw new RegainError('target-not-empty', `${directory} is not empty. Nothing in it was changed.`)
  }
}

function describeSteps(part: Omit<RestorePart, 'steps'>, { until, notes }: Start, place: TargetPlan): string[] {
  const { point, destination, directory, source, at } = part
  const amountOf = `${amount(point.entries, 'entry', 'entries')}, ${amount(point.bytes.source, 'byte', 'bytes')}`
  const what = part.path === null ? amountOf : `the entries that match ${part.path}`
  const steps = [
    `open the repository of ${part.service.name} at ${destination.name} and pin the point ${point.id}, committed at ${point.committedAt}`,
    part.inPlace
      ? `WRITE OVER what is in ${directory}: read all of it, write what differs of ${what}${part.path === null ? ', and remove what the point does not have' : ''}`
      : `write ${what}, to ${directory}, checking every chunk`,
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
  steps.push(...[...place.notes, ...notes].map((note) => `know that: ${note}`))
  return steps
}

function amount(count: number, one: string, many: string): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`
}
