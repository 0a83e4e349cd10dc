import { RegainError } from '../errors.ts'
import type { OpenPoint, Repository } from '../repository/api.ts'
import type { RestoreMoment } from '../sources/contract.ts'
import type { Application, LoggedLoss, LogSearchSummary, Reporting } from './context.ts'
import { withRepository } from './repositories.ts'
import { sourceRequest } from './sources.ts'
import { destinationsOf, selectTarget } from './targets.ts'

export interface SearchLogRequest {
  /** SERVICE/SOURCE, or SERVICE if it has one database only. */
  target: string
  /** The first of the service's that can be read if undefined. */
  destination?: string
  database: string | null
  /** NAME or SCHEMA.NAME, as the database keeps them. */
  table: string | null
  rows: number
  updates: boolean
  from: RestoreMoment | null
  to: RestoreMoment | null
}

export interface LogSearchOutcome extends LogSearchSummary {
  service: string
  source: string
  destination: string
}

/**
 * Finds in the log of a source what was dropped, truncated or deleted, and hands it over in the order of the log.
 * `onLoss` returns false to end early. Destinations are asked in their order until one can be read.
 */
export async function searchSourceLog(
  application: Application,
  request: SearchLogRequest,
  reporting: Reporting,
  onLoss: (loss: LoggedLoss) => boolean,
): Promise<LogSearchOutcome> {
  const { config, drivers } = application
  const { service, sources } = selectTarget(config, request.target)
  const databases = sources.filter(({ type }) => type === 'postgres')
  const [source] = databases
  if (source === undefined) throw new RegainError('usage', `${request.target} has no log to search.`)
  if (databases.length > 1) {
    throw new RegainError('usage', `${service.name} has several databases.`, {
      hint: `Name one: ${databases.map(({ name }) => `${service.name}/${name}`).join(', ')}`,
    })
  }
  const names = { database: request.database, ...namesOf(request.table) }
  const { rows, updates, from, to } = request
  const looking = { rows, updates, from, to }
  let failure: RegainError | null = null
  for (const destination of destinationsOf(config, service, request.destination)) {
    let hasBegun = false
    try {
      const summary = await withRepository(application, service, destination, async (repository) => {
        const points = await repository.points({ source: source.name })
        const asked = sourceRequest(application, { service, source, destination, log: repository.log(source.name) })
        const search = { ...names, ...looking, points, withPoint: pointsOf(repository, reporting), found: onLoss }
        hasBegun = true
        return drivers.searchLog(asked, search, reporting)
      })
      return { service: service.name, source: source.name, destination: destination.name, ...summary }
    } catch (error) {
      // What was found may have been told already: then another destination would tell it again.
      if (!(error instanceof RegainError) || error.code === 'interrupted' || hasBegun) throw error
      failure ??= error
      reporting.warn(`The destination ${destination.name} could not be read: ${error.message}`)
    }
  }
  throw failure ?? new RegainError('usage', `${service.name} has no destination.`)
}

function pointsOf(repository: Repository, { signal }: Reporting) {
  return async <T>(id: string, use: (point: OpenPoint) => Promise<T>): Promise<T> => {
    const point = await repository.openPoint(id, { signal })
    try {
      return await use(point)
    } finally {
      await point.close()
    }
  }
}

function namesOf(text: string | null): { schema: string | null; table: string | null } {
  if (text === null) return { schema: null, table: null }
  const parts = text.split('.')
  if (parts.length > 2 || parts.includes('')) {
    throw new RegainError('usage', `"${text}" is not the name of a table.`, {
      hint: 'Write --table orders or --table sales.orders, without quotes, and the database with --database.',
    })
  }
  return parts.length === 2 ? { schema: parts[0]!, table: parts[1]! } : { schema: null, table: parts[0]! }
}
