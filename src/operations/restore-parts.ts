import { resolve } from 'node:path'
import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import type { Repository } from '../repository/api.ts'
import type { PartsRestore, PartsSelection, PartsSummary, PartsTarget, RestoreMoment } from '../sources/contract.ts'
import type { Application, Reporting } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { formatMoment, refuseLogChoice } from './moments.ts'
import { withRepository } from './repositories.ts'
import { findStart } from './restore-start.ts'
import { openSourceForRestore } from './sources.ts'
import { selectTarget } from './targets.ts'
import { isTenantSource } from './tenants.ts'

export interface PartsRequest {
  /** SERVICE/SOURCE, or SERVICE if it has one source only. */
  target: string
  selection: PartsSelection
  /** Path, relative to the working directory or absolute, or URL. */
  to: string
  at: RestoreMoment
  /** What is there of a tenant is replaced. */
  overwrite?: true
  destination?: string
}

/** What will be done, decided and checked before anything is written. */
export interface PartsPlan {
  service: ServiceConfiguration
  source: SourceConfiguration
  destination: DestinationConfiguration
  point: Point
  /** For people. */
  at: string
  target: PartsTarget
  /** For people, in order. */
  steps: string[]
}

export interface PartsOutcome extends PartsSummary {
  service: string
  source: string
  destination: string
  point: Point
  startedAt: string
  durationMs: number
}

/** Makes the plan of a restore of tables, a schema or a database. Rejects as planRestore does. Changes nothing. */
export async function planPartsRestore(
  application: Application,
  request: PartsRequest,
  reporting: Reporting,
): Promise<PartsPlan> {
  checkSelection(request)
  const { service, source } = selectDatabase(application, request)
  const { selection, to } = request
  refuseLogChoice(request.at, source.type, request.target)
  const isAll = selection.database === null && selection.schema === null && selection.tables.length === 0
  if (isAll && source.type === 'postgres') {
    throw notInThisVersion(
      'Restoring a whole cluster into a running server (--to URL)',
      'Name a new directory: --to /srv/restored; or what to restore there: --table, --schema or --database.',
    )
  }
  const { point, destination, notes } = await findStart(application, service, source, request, reporting)
  const target: PartsTarget = {
    selection,
    to: /^[a-z][a-z0-9+.-]*:\/\//i.test(to) ? to : resolve(to),
    at: request.at.kind === 'point' ? { kind: 'point', id: point.id } : request.at,
    ...(request.overwrite ? { overwrite: true } : {}),
  }
  const found = { service, source, destination, point, at: formatMoment(request.at), target }
  const driverSteps = await withParts(application, found, async (parts, repository) => {
    const readers: { close(): Promise<void> }[] = []
    const open = async () => {
      const reader = await repository.openPoint(point.id, { signal: reporting.signal })
      readers.push(reader)
      return reader
    }
    try {
      return await parts.plan(point, target, reporting, open)
    } finally {
      for (const reader of readers) await reader.close()
    }
  })
  const first = `open the repository of ${service.name} at ${destination.name} and pin the point ${point.id}, committed at ${point.committedAt}`
  return { ...found, steps: [first, ...driverSteps, ...notes.map((note) => `know that: ${note}`)] }
}

/** Carries out the plan. All or nothing: when it rejects, nothing of it is at the target. */
export async function restoreParts(
  application: Application,
  plan: PartsPlan,
  reporting: Reporting,
): Promise<PartsOutcome> {
  const { service, source, destination, point, target } = plan
  const startedMs = application.ambient.now()
  const summary = await withParts(application, plan, async (parts, repository) => {
    const reader = await repository.openPoint(point.id, { signal: reporting.signal })
    try {
      return await parts.restore(reader, target, reporting)
    } finally {
      await reader.close()
    }
  })
  return {
    ...summary,
    service: service.name,
    source: source.name,
    destination: destination.name,
    point,
    startedAt: new Date(startedMs).toISOString(),
    durationMs: Math.max(0, application.ambient.now() - startedMs),
  }
}

function checkSelection({ selection, target, at, to }: PartsRequest): void {
  if (to === '') throw new RegainError('usage', '--to needs a file, a directory or the URL of a database.')
  if (selection.schema !== null && selection.tables.length > 0) {
    throw new RegainError('usage', '--schema and --table exclude each other. Nothing was done.', {
      hint: 'A table of a schema is --table SCHEMA.TABLE.',
    })
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(to) && !/^postgres(ql)?:\/\//.test(to)) {
    throw new RegainError('usage', `Parts of ${target} as of ${formatMoment(at)} can't be written to such a URL.`, {
      hint: 'Name a file (--to orders.sql), a directory, or postgres://user@host:5432/database.',
    })
  }
}

function selectDatabase(
  application: Application,
  request: PartsRequest,
): { service: ServiceConfiguration; source: SourceConfiguration } {
  const { service, sources } = selectTarget(application.config, request.target)
  const databases = sources.filter(({ type }) => type !== 'files')
  const [source] = databases
  if (source !== undefined && databases.length === 1) {
    if (isTenantSource(source)) throw needsTenant(`${service.name}/${source.name}`)
    return { service, source }
  }
  if (source === undefined) {
    throw new RegainError(
      'usage',
      `A URL for --to, --table, --schema and --database are for databases; ${request.target} is files. Nothing was done.`,
      { hint: '--path selects files.' },
    )
  }
  throw new RegainError('usage', `${request.target} has several databases' servers. Nothing was done.`, {
    hint: `Name one: ${databases.map(({ name }) => `${service.name}/${name}`).join(', ')}`,
  })
}

function needsTenant(name: string): RegainError {
  return new RegainError('usage', `${name} has points of each tenant alone. Nothing was done.`, {
    hint: `Name one: regain restore ${name} --tenant NAME --to …; they are listed by: regain tenants ${name}`,
  })
}

/** The driver that takes sources of this type apart. */
function withParts<T>(
  application: Application,
  { service, source, destination }: Pick<PartsPlan, 'service' | 'source' | 'destination'>,
  use: (parts: PartsRestore, repository: Repository) => Promise<T>,
): Promise<T> {
  return withRepository(application, service, destination, async (repository) => {
    const log = repository.log(source.name)
    const { parts } = await openSourceForRestore(application, { service, source, destination, log })
    if (parts === undefined) {
      throw new RegainError('usage', `${service.name}/${source.name} has no tables, schemas or databases.`)
    }
    return use(parts, repository)
  })
}
