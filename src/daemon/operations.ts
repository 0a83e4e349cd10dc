import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import { describeError, recordBackup, recordPrune } from '../catalog/record.ts'
import type { ServiceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'
import { bringPoint, type OneBackup, type PointElsewhere } from '../operations/backup.ts'
import type { Application } from '../operations/context.ts'
import { pruneRepository } from '../operations/prune.ts'
import { withRepository } from '../operations/repositories.ts'
import { requireRetention } from '../operations/require-retention.ts'
import { withSourceLog } from '../operations/source-log.ts'
import { destinationsOf, selectTarget } from '../operations/targets.ts'
import type { ScheduleRule } from '../policy/schedule.ts'
import type { WantedFollower } from './followers.ts'
import type { PruneRule } from './pruner.ts'
import type { DaemonPlan } from './serve.ts'
import { type DaemonWork, nameOf, type SourceName } from './work.ts'

/** Scheduled runs of one rule start up to this much late, each always by the same. */
const JITTER_MS = 30_000
/** Runs since a moment that is due now. */
const RUNS_CONSIDERED = 50

/** What a configuration asks of the daemon, bound to the operations that do it. */
export function planOf(application: Application): DaemonPlan {
  const { config } = application
  const services = Object.values(config.services)
  for (const service of services) requireRetention(service, Object.values(service.sources))
  return {
    config: config.path,
    state: config.state,
    rules: services.flatMap(rulesOf),
    prunes: services.flatMap(prunesOf),
    followers: services.flatMap((service) => followersOf(application, service)),
    work: workOf(application),
  }
}

/** Dumps and tenants are always whole: with a schedule for full backups they keep to that. */
export function rulesOf(service: ServiceConfiguration): ScheduleRule[] {
  const { schedule } = service
  return Object.entries(service.sources).flatMap(([source, { type }]) =>
    service.destinations.flatMap((destination) =>
      (['full', 'incremental'] as const).flatMap((kind) => {
        const cron = schedule[kind]
        const isFullOnly = ['postgres-dump', 'postgres-tenants'].includes(type) && schedule.full !== undefined
        if (cron === undefined || (isFullOnly && kind === 'incremental')) return []
        const { timezone: timeZone } = schedule
        return [
          {
            service: service.name,
            source,
            destination,
            kind,
            cron,
            timeZone,
            window: service.limits.window,
            jitterMs: JITTER_MS,
          },
        ]
      }),
    ),
  )
}

function prunesOf({ name: service, destinations, schedule }: ServiceConfiguration): PruneRule[] {
  const { prune: cron, timezone: timeZone } = schedule
  return cron === null ? [] : destinations.map((destination) => ({ service, destination, cron, timeZone }))
}

function followersOf(application: Application, service: ServiceConfiguration): WantedFollower[] {
  const followed = Object.values(service.sources).filter(
    (source) => source.type === 'postgres' && source.log === 'continuous',
  )
  const { config } = application
  return followed.map((source) => {
    const key = config.keys[service.key]
    // A follower holds its repository open with what it was given: when any of that changes it starts anew.
    const fingerprint = JSON.stringify([source, destinationsOf(config, service), key])
    const limit = source.type === 'postgres' ? source.slotLimit : 'auto'
    return { service: service.name, source: source.name, destinations: service.destinations, limit, fingerprint }
  })
}

function workOf(application: Application): DaemonWork {
  const { config, ambient } = application
  return {
    async backup(name, destinationName, { kind, since, signal }) {
      const { service, source } = find(application, name)
      const [destination] = destinationsOf(config, service, destinationName)
      if (destination === undefined) throw new RegainError('internal', `No destination ${destinationName}.`)
      const warn = (message: string) => ambient.log('warning', message, { source: nameOf(name) })
      const reporting = { signal, warn, progress: () => {} }
      const run = { ...name, destination: destinationName, kind, origin: 'schedule' as const }
      return withCatalog(application, (catalog) =>
        recordBackup(catalog, run, ambient, async () => {
          const one = { service, source, destination, request: { kind } }
          const taken = takenElsewhere(application, catalog, one, since)
          if (taken === null) return bringPoint(application, { ...one, taken }, reporting)
          try {
            return await bringPoint(application, { ...one, taken }, reporting)
          } catch (error) {
            if (signal.aborted) throw error
            const { message } = describeError(error)
            warn(`The point at ${taken.destination.name} could not be copied, so the source is read again: ${message}`)
            return bringPoint(application, { ...one, taken: null }, reporting)
          }
        }),
      )
    },
    async follow(name, options) {
      const { service, source } = find(application, name)
      if (source.unresolved !== undefined) throw new RegainError('config-invalid', source.unresolved)
      await withSourceLog(application, service, source, destinationsOf(config, service), async (opened) => {
        const follower = await application.drivers.createFollower(opened.request)
        if (follower === null) throw new RegainError('internal', `${nameOf(name)} has no log to follow.`)
        const needsPoint = await opened.uncovered()
        const known = needsPoint === undefined ? {} : { needsPoint }
        await follower.run({ ...options, status: (status) => options.status({ ...known, ...status }) })
      })
    },
    async guard(name) {
      const { service, source } = find(application, name)
      const { ambient, launcher } = application
      return application.drivers.createLogGuard({ service, source, ambient, config, launcher })
    },
    async prune(serviceName, destinationName, signal) {
      const { service } = selectTarget(config, serviceName)
      const [destination] = destinationsOf(config, service, destinationName)
      if (destination === undefined) throw new RegainError('internal', `No destination ${destinationName}.`)
      const about = { service: serviceName, destination: destinationName }
      const warn = (message: string) => ambient.log('warning', message, about)
      const reporting = { signal, warn, progress: () => {} }
      return withCatalog(application, (catalog) =>
        recordPrune(catalog, { ...about, origin: 'schedule' }, ambient, () =>
          pruneRepository(application, service, destination, reporting),
        ),
      )
    },
    async points(serviceName, destinationName) {
      const { service } = selectTarget(config, serviceName)
      const [destination] = destinationsOf(config, service, destinationName)
      if (destination === undefined) throw new RegainError('internal', `No destination ${destinationName}.`)
      return withRepository(application, service, destination, (repository) => repository.points())
    },
  }
}

/** The newest point of another destination that serves as well, by what is known of past runs. */
function takenElsewhere(
  application: Application,
  catalog: Catalog,
  one: Omit<OneBackup, 'taken'>,
  since: number,
): PointElsewhere | null {
  const { service, source, destination, request } = one
  const runs = catalog.runs({ operation: 'backup', service: service.name, source: source.name, limit: RUNS_CONSIDERED })
  const others = destinationsOf(application.config, service).filter(({ name }) => name !== destination.name)
  for (const run of runs) {
    if (run.point === null || run.startedAt < since || (request.kind === 'full' && run.kind !== 'full')) continue
    const other = others.find(({ name }) => name === run.destination)
    if (other !== undefined) return { destination: other, point: run.point }
  }
  return null
}

async function withCatalog<T>(application: Application, use: (catalog: Catalog) => Promise<T>): Promise<T> {
  const { config, ambient, processId } = application
  const catalog = openCatalog({ directory: config.state, ambient, pid: processId, isDaemon: true })
  try {
    return await use(catalog)
  } finally {
    catalog.close()
  }
}

function find(application: Application, name: SourceName) {
  const { service, sources } = selectTarget(application.config, nameOf(name))
  const [source] = sources
  if (source === undefined) throw new RegainError('internal', `No source ${nameOf(name)}.`)
  return { service, source }
}
