import type {
  Configuration,
  DestinationConfiguration,
  PostgresTenantsConfiguration,
  ServiceConfiguration,
  SourceConfiguration,
} from '../config/configuration.ts'
import { suggestion } from '../config/suggest.ts'
import { RegainError } from '../errors.ts'

/** What a person names as SERVICE or SERVICE/SOURCE. */
export interface Target {
  service: ServiceConfiguration
  sources: SourceConfiguration[]
  /** True if a source was named. */
  isOneSource: boolean
}

/** Rejects with `usage` if there is no such service or source. */
export function selectTarget(config: Configuration, text: string): Target {
  const [serviceName = '', sourceName, ...rest] = text.split('/')
  const service = serviceOf(config, serviceName)
  if (service === undefined || rest.length > 0) {
    throw new RegainError(
      'usage',
      `There is no service "${serviceName}"${suggestion(serviceName, Object.keys(config.services))}`,
      {
        hint: `Services are named in ${config.path}.`,
      },
    )
  }
  if (sourceName === undefined) return { service, sources: Object.values(service.sources), isOneSource: false }
  const source = Object.hasOwn(service.sources, sourceName) ? service.sources[sourceName] : undefined
  if (source === undefined) {
    throw new RegainError(
      'usage',
      `The service ${service.name} has no source "${sourceName}"${suggestion(sourceName, Object.keys(service.sources))}`,
      { hint: `Sources are named in ${config.path}.` },
    )
  }
  return { service, sources: [source], isOneSource: true }
}

function serviceOf(config: Configuration, name: string): ServiceConfiguration | undefined {
  if (Object.hasOwn(config.services, name)) return config.services[name]
  // Names of services and sources have no dots.
  const [serviceName = '', sourceName = '', id = '', ...rest] = name.split('.')
  const service = Object.hasOwn(config.services, serviceName) ? config.services[serviceName] : undefined
  const source = service && Object.hasOwn(service.sources, sourceName) ? service.sources[sourceName] : undefined
  if (service === undefined || source?.type !== 'postgres-tenants') return undefined
  if (rest.length > 0 || !/^[0-9a-f]+$/.test(id) || id.length !== TENANT_ID_DIGITS) return undefined
  return tenantService(service, source, id)
}

export const TENANT_ID_DIGITS = 24

/** One tenant as a service of its own: SERVICE.SOURCE.ID, with the one source, and all else as the service has it. */
export function tenantService(
  service: ServiceConfiguration,
  source: PostgresTenantsConfiguration,
  id: string,
): ServiceConfiguration {
  const retention = service.retention[source.name]
  return {
    ...service,
    name: `${service.name}.${source.name}.${id}`,
    sources: { [source.name]: { ...source, tenant: id } },
    retention: retention === undefined ? {} : { [source.name]: retention },
  }
}

/** Without a text: every service. */
export function selectTargets(config: Configuration, text: string | undefined): Target[] {
  if (text !== undefined) return [selectTarget(config, text)]
  return Object.keys(config.services).map((name) => selectTarget(config, name))
}

/** For what is done to a whole service: whoever names one source of it must not get more than was asked for. */
export function selectService(config: Configuration, text: string): ServiceConfiguration {
  const { service, isOneSource } = selectTarget(config, text)
  if (!isOneSource) return service
  throw new RegainError(
    'usage',
    `This is done to a service as a whole, and ${text} is one of its sources. Nothing was done.`,
    { hint: `For all of its sources name the service: ${service.name}` },
  )
}

/** Without a text: every service. */
export function selectServices(config: Configuration, text: string | undefined): ServiceConfiguration[] {
  return text === undefined ? Object.values(config.services) : [selectService(config, text)]
}

/** The service's destinations in the order of the file, or the one that is named. */
export function destinationsOf(
  config: Configuration,
  service: ServiceConfiguration,
  only?: string,
): DestinationConfiguration[] {
  if (only !== undefined && !service.destinations.includes(only)) {
    throw new RegainError(
      'usage',
      `The service ${service.name} has no destination "${only}"${suggestion(only, service.destinations)}`,
    )
  }
  const names = only === undefined ? service.destinations : [only]
  return names.map((name) => config.destinations[name]!)
}
