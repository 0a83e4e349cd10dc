import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import type { Application, Reporting } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { choosePoint, formatMoment } from './moments.ts'
import { listPoints, type SourcePoints } from './points.ts'
import { selectTarget } from './targets.ts'

export interface RestoreRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  /** Directory, relative to the working directory or absolute. */
  to: string
  at: RestoreMoment
  /** Glob over paths. */
  path: string | null
  start: boolean
  /** Where to read from; any destination that has the point if undefined. */
  destination?: string
}

/** What will be done, decided and checked before anything is written. */
export interface RestorePlan {
  service: string
  at: string
  parts: RestorePart[]
}

export interface RestorePart {
  service: ServiceConfiguration
  source: SourceConfiguration
  destination: DestinationConfiguration
  point: Point
  /** Absolute; absent or empty when the plan was made. */
  directory: string
  at: RestoreMoment
  path: string | null
  start: boolean
  /** For people, in order. */
  steps: string[]
}

/**
 * Makes the plan of a restore: which point, from where, to where. Rejects if a target holds anything
 * (`target-not-empty`), or if a source has no point that can serve (`point-not-found`, `moment-unreachable`).
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

  const found = await listPoints(application, request, reporting)
  const parts: RestorePart[] = []
  for (const source of target.sources) {
    const candidates = found.filter((candidate) => candidate.source === source.name)
    const { point, destination } = chooseFrom(candidates, `${target.service.name}/${source.name}`, request.at)
    const directory = isSingle ? root : join(root, source.name)
    await checkEmpty(directory)
    const part = {
      service: target.service,
      source,
      destination: application.config.destinations[destination]!,
      point,
      directory,
      // The point has been chosen; a driver with a log needs to know that it must stop there.
      at: request.at.kind === 'point' ? { kind: 'point' as const, id: point.id } : request.at,
      path: request.path,
      start: request.start && source.type === 'postgres',
    }
    parts.push({ ...part, steps: describeSteps(part) })
  }
  return { service: target.service.name, at: formatMoment(request.at), parts }
}

function targetDirectory(to: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(to)) {
    throw notInThisVersion('Restoring into a running server (--to URL)', 'Name a new directory: --to /srv/restored')
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
  if (types.has('files') && (kind === 'lsn' || kind === 'xid' || kind === 'name')) {
    throw new RegainError('usage', `${formatMoment(request.at)} is a moment of a database; ${request.target} is files.`)
  }
  if (request.start && !types.has('postgres')) {
    throw new RegainError('usage', `--start starts a database; ${request.target} is files. Nothing was done.`)
  }
  if (request.path !== null && types.has('postgres')) {
    throw new RegainError('usage', '--path selects files; a database is restored whole. Nothing was done.', {
      hint: `Name a source of files, such as ${request.target.split('/')[0]}/files.`,
    })
  }
}

/** The newest serving point over all destinations; of equals, the first destination of the configuration. */
function chooseFrom(
  candidates: SourcePoints[],
  name: string,
  at: RestoreMoment,
): { point: Point; destination: string } {
  let best: { point: Point; destination: string } | null = null
  for (const { points, destination } of candidates) {
    const point = choosePoint(points, at)
    if (point !== null && (best === null || point.committedAt > best.point.committedAt)) best = { point, destination }
  }
  if (best !== null) return best

  const all = candidates.flatMap((candidate) => candidate.points)
  if (all.length === 0) {
    throw new RegainError('point-not-found', `There is no recovery point of ${name}.`, {
      hint: `Take one with: regain backup ${name}`,
    })
  }
  if (at.kind === 'point')
    throw new RegainError('point-not-found', `${name} has no point whose id begins with ${at.id}.`)
  const first = all.reduce((a, b) => (a.committedAt <= b.committedAt ? a : b))
  throw new RegainError(
    'moment-unreachable',
    `${name} cannot be brought back to ${formatMoment(at)}: its first point was committed at ${first.committedAt}.`,
  )
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
  if (names.length > 0) {
    throw new RegainError('target-not-empty', `${directory} is not empty. Nothing in it was changed.`)
  }
}

function describeSteps(part: Omit<RestorePart, 'steps'>): string[] {
  const { point, destination, directory, source, at } = part
  const steps = [
    `open the repository of ${part.service.name} at ${destination.name} and pin the point ${point.id}, committed at ${point.committedAt}`,
    part.path === null
      ? `write ${point.entries.toLocaleString('en-US')} entries, ${point.bytes.source.toLocaleString('en-US')} bytes, to ${directory}, checking every chunk`
      : `write the entries that match ${part.path} to ${directory}, checking every chunk`,
  ]
  if (!point.complete)
    steps.push(`name what the point itself lacks: ${point.missedCount} things were missed when it was taken`)
  if (source.type === 'postgres') {
    steps.push(`make it recover to ${formatMoment(at)} from the log in the repository`)
    if (part.start) steps.push('start a server on it and report the moment really reached')
  }
  return steps
}
