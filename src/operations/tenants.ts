import { createHmac } from 'node:crypto'
import type {
  DestinationConfiguration,
  PostgresTenantsConfiguration,
  ServiceConfiguration,
  SourceConfiguration,
} from '../config/configuration.ts'
import { isRegainError, RegainError, throwIfInterrupted } from '../errors.ts'
import type { Point } from '../model.ts'
import type { Repository } from '../repository/api.ts'
import { tellsDestroyed } from '../repository/repository.ts'
import type { Application, Reporting } from './context.ts'
import { fromReadable } from './points.ts'
import { ensureRepository, withRepository } from './repositories.ts'
import { destinationsOf, selectTarget, TENANT_ID_DIGITS, tenantService } from './targets.ts'

/**
 * Tenants of a source, each in a repository of its own, with keys of its own, beside that of the service
 * (docs/decisions, Tenants). The service's repository knows, as small objects of the source's log, a secret, and the
 * ids of all tenants that ever had a repository. An id says nothing of its tenant: it is an HMAC of the tenant's name under the
 * secret. The name itself is only in the tenant's own repository, and goes when that one's keys are destroyed.
 */
const SECRET = 'tenants'
const SECRET_BYTES = 32
const IS_ID = new RegExp(`^[0-9a-f]{${TENANT_ID_DIGITS}}$`)
const MARK = Buffer.from('tenant\n')

export type TenantSource = PostgresTenantsConfiguration

/** A source of all tenants, not of one. */
export function isTenantSource(source: SourceConfiguration): source is TenantSource {
  return source.type === 'postgres-tenants' && source.tenant === undefined
}

export function tenantSources(service: ServiceConfiguration): TenantSource[] {
  return Object.values(service.sources).filter(isTenantSource)
}

export function tenantId(secret: Buffer, service: ServiceConfiguration, source: TenantSource, tenant: string): string {
  const text = JSON.stringify(['regain tenant', service.name, source.name, tenant])
  return createHmac('sha256', secret).update(text).digest('hex').slice(0, TENANT_ID_DIGITS)
}

/** The service that stands for what a person names as SERVICE/SOURCE and a tenant. */
export async function findTenant(
  application: Application,
  target: string,
  tenant: string,
  reporting: Reporting,
): Promise<{ service: ServiceConfiguration; source: string }> {
  const { service, sources } = selectTarget(application.config, target)
  const [source, ...others] = sources.filter(isTenantSource)
  if (source === undefined || others.length > 0) {
    throw new RegainError(
      'usage',
      source === undefined
        ? `${target} has no tenants. Nothing was done.`
        : `${target} has several sources of tenants. Nothing was done.`,
      { hint: 'Name one source of type postgres-tenants: SERVICE/SOURCE --tenant NAME' },
    )
  }
  const name = `${service.name}/${source.name}`
  const known = await fromReadable(application, service, undefined, reporting, async (repository) => {
    const secret = await readSecret(repository, source)
    return secret === null ? [] : [{ secret, ids: await knownTenants(repository, source) }]
  })
  for (const { secret, ids } of known) {
    const id = tenantId(secret, service, source, tenant)
    if (ids.includes(id)) return { service: tenantService(service, source, id), source: source.name }
  }
  throw new RegainError('point-not-found', `${name} never had a point of a tenant ${tenant}. Nothing was done.`, {
    hint: `Write it as the data does; see regain tenants ${name}. A new tenant gets its first point with all others: regain backup ${name}`,
  })
}

/** Ids of all that ever had a repository here, sorted. */
export async function knownTenants(repository: Repository, source: TenantSource): Promise<string[]> {
  const { histories } = await repository.log(source.name).list()
  return histories.filter((name) => IS_ID.test(name)).sort()
}

/** Each tenant of the service, as a service whose destinations are those that know it. */
export async function tenantsOf(
  application: Application,
  service: ServiceConfiguration,
  only?: string,
): Promise<ServiceConfiguration[]> {
  const sources = tenantSources(service)
  if (sources.length === 0) return []
  const found = new Map<string, ServiceConfiguration>()
  for (const destination of destinationsOf(application.config, service, only))
    await withRepository(application, service, destination, async (repository) => {
      for (const source of sources)
        for (const id of await knownTenants(repository, source)) {
          const one = tenantService(service, source, id)
          const known = found.get(one.name)?.destinations ?? []
          found.set(one.name, { ...one, destinations: [...known, destination.name] })
        }
    })
  return [...found.values()]
}

/**
 * Runs `use` for each tenant but those whose keys were destroyed, and those that were announced and never made. What fails for
 * one fails.
 */
export async function eachTenant(
  application: Application,
  service: ServiceConfiguration,
  use: (tenant: ServiceConfiguration) => Promise<void>,
  only?: string,
): Promise<void> {
  for (const tenant of await tenantsOf(application, service, only)) {
    try {
      await use(tenant)
    } catch (error) {
      if (!tellsDestroyed(error) && !isRegainError(error, 'repository-not-found')) throw error
    }
  }
}

/** Makes the tenant's repository where it is not there yet. It is known before it is there, so that none is ever forgotten. */
export async function ensureTenant(
  application: Application,
  repository: Repository,
  source: TenantSource,
  tenant: ServiceConfiguration,
  destination: DestinationConfiguration,
): Promise<void> {
  const id = tenant.name.slice(-TENANT_ID_DIGITS)
  await repository.log(source.name).putHistory(id, MARK)
  await ensureRepository(application, tenant, destination, { isTried: true })
}

/**
 * The secret of a source, made at its first backup: the same at all destinations. Rejects with `precondition-failed` if it is not here and another
 * destination that may have it can't be asked.
 */
export async function ensureSecret(
  application: Application,
  service: ServiceConfiguration,
  source: TenantSource,
  repository: Repository,
  here: DestinationConfiguration,
): Promise<Buffer> {
  const own = await readSecret(repository, source)
  if (own !== null) return own
  const places = destinationsOf(application.config, service)
  const withLog = <T>(
    place: DestinationConfiguration,
    use: (repository: Repository) => Promise<T>,
  ): Promise<T | null> =>
    place.name === here.name
      ? use(repository)
      : withRepository(application, service, place, use).catch((error: unknown) => {
          if (isRegainError(error, 'repository-not-found')) return null
          if (!isRegainError(error) || error.code === 'interrupted') throw error
          throw new RegainError(
            'precondition-failed',
            `The first backup of ${service.name}/${source.name} needs all destinations, which then call tenants by the same names: ${place.name} can't be asked. ${error.message}`,
            { hint: error.hint, cause: error },
          )
        })
  let secret: Buffer | null = null
  for (const place of places) secret ??= await withLog(place, (one) => readSecret(one, source))
  // Another one would call all tenants by new names, and leave what they have to itself.
  if (secret === null && (await knownTenants(repository, source)).length > 0)
    throw new RegainError(
      'repository-damaged',
      `${here.name} has tenants of ${service.name}/${source.name}, and has lost the secret that their names are made with. Nothing was backed up; what is stored can be restored by the names of their repositories.`,
      { hint: `See them with: regain tenants ${service.name}. To begin anew, give the source another name.` },
    )
  secret ??= application.ambient.randomBytes(SECRET_BYTES)
  // In one order everywhere: of two that begin at once, the first place decides which secret it is.
  for (const place of places) secret = (await withLog(place, (one) => keepSecret(one, source, secret!))) ?? secret
  return secret
}

async function keepSecret(repository: Repository, source: TenantSource, secret: Buffer): Promise<Buffer> {
  try {
    await repository.log(source.name).putHistory(SECRET, secret)
    return secret
  } catch (error) {
    if (!isRegainError(error, 'log-conflict')) throw error
    return (await readSecret(repository, source)) ?? secret
  }
}

async function readSecret(repository: Repository, source: TenantSource): Promise<Buffer | null> {
  const secret = await repository.log(source.name).readHistory(SECRET)
  if (secret === null || secret.length === SECRET_BYTES) return secret
  throw new RegainError(
    'repository-damaged',
    `The names of tenants of ${source.name} can't be told: ${SECRET} is not whole.`,
  )
}

export interface ListedTenant {
  service: string
  source: string
  destination: string
  /** What all commands take in the place of a service. */
  name: string
  /** As the data says it; null: there is no point that says it, or it can't be read. */
  tenant: string | null
  state: 'kept' | 'destroyed' | 'without-points' | 'unreadable'
  points: number
  newest: Point | null
  /** Why it can't be read. */
  detail: string | null
}

/** Every tenant that has, or had, a repository. */
export async function listTenants(
  application: Application,
  target: string,
  only: string | undefined,
  reporting: Reporting,
): Promise<ListedTenant[]> {
  const { service, sources } = selectTarget(application.config, target)
  const wanted = sources.filter(isTenantSource)
  if (wanted.length === 0) throw new RegainError('usage', `${target} has no source of type postgres-tenants.`)
  const listed: ListedTenant[] = []
  for (const destination of destinationsOf(application.config, service, only)) {
    const ids = await withRepository(application, service, destination, async (repository) => {
      const known: [TenantSource, string[]][] = []
      for (const source of wanted) known.push([source, await knownTenants(repository, source)])
      return known
    })
    for (const [source, known] of ids)
      for (const id of known) {
        throwIfInterrupted(reporting.signal)
        const about = { service: service.name, source: source.name, destination: destination.name }
        listed.push({ ...about, ...(await look(application, tenantService(service, source, id), destination)) })
      }
  }
  return listed
}

async function look(
  application: Application,
  tenant: ServiceConfiguration,
  destination: DestinationConfiguration,
): Promise<Omit<ListedTenant, 'service' | 'source' | 'destination'>> {
  const unknown = { name: tenant.name, tenant: null, points: 0, newest: null }
  try {
    const points = await withRepository(application, tenant, destination, (repository) => repository.points())
    const newest = points.at(-1) ?? null
    const name = newest?.positions.tenant
    const state = newest === null ? 'without-points' : 'kept'
    return {
      ...unknown,
      tenant: typeof name === 'string' ? name : null,
      state,
      points: points.length,
      newest,
      detail: null,
    }
  } catch (error) {
    if (!isRegainError(error) || error.code === 'interrupted') throw error
    return { ...unknown, state: tellsDestroyed(error) ? 'destroyed' : 'unreadable', detail: error.message }
  }
}
