import type { Configuration, ServiceConfiguration } from '../config/configuration.ts'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import { checkStorage, clockSkew, type StorageFinding } from '../storage/check-storage.ts'
import type { Application, Reporting } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { ensureRepository, withPlace } from './repositories.ts'
import { destinationsOf, selectServices } from './targets.ts'
import { type VerifyOutcome, verify } from './verify.ts'

export interface EnsuredRepository {
  service: string
  destination: string
  isNew: boolean
}

/** Makes the repositories that the configuration names and that are not there yet. The keys must exist. */
export async function initRepositories(
  application: Application,
  serviceName: string | undefined,
  onEnsured: (repository: EnsuredRepository) => void = () => {},
): Promise<EnsuredRepository[]> {
  const ensured: EnsuredRepository[] = []
  for (const service of selectServices(application.config, serviceName)) {
    for (const destination of destinationsOf(application.config, service)) {
      const isNew = await ensureRepository(application, service, destination)
      const repository = { service: service.name, destination: destination.name, isNew }
      ensured.push(repository)
      onEnsured(repository)
    }
  }
  return ensured
}

export interface StoreOutcome {
  service: string
  destination: string
  findings: StorageFinding[]
  /** How this machine's clock and the store's differ; null: not by much, or the store does not tell. */
  clock: string | null
}

/**
 * Whether the stores keep what repositories rely on, by using each in a folder of its own; then whether every object that
 * points and logs need is there with its right size. No content is read. `name` is a service, a destination, or all.
 */
export async function checkRepositories(
  application: Application,
  name: string | undefined,
  reporting: Reporting,
  on: { store(outcome: StoreOutcome): void; repository(outcome: VerifyOutcome): void },
): Promise<boolean> {
  const { config } = application
  const destination = name !== undefined && !config.services[name] && config.destinations[name] ? name : undefined
  const services = destination === undefined ? selectServices(config, name) : servicesThatUse(config, destination)
  let isWell = true
  for (const service of services) {
    for (const each of destinationsOf(config, service, destination)) {
      throwIfInterrupted(reporting.signal)
      const { ambient } = application
      const { signal } = reporting
      const outcome = await withPlace(application, service, each, async (storage) => ({
        clock: await clockSkew(storage, ambient, { signal }),
        findings: await checkStorage(storage, ambient, { signal }),
      }))
      const { findings } = outcome
      on.store({ service: service.name, destination: each.name, ...outcome })
      isWell &&= findings.every(({ broken }) => broken === null)
    }
    const request = { target: service.name, readData: false, ...(destination === undefined ? {} : { destination }) }
    const outcomes = await verify(application, request, reporting, on.repository)
    isWell &&= outcomes.every(({ problems }) => problems.length === 0)
  }
  return isWell
}

function servicesThatUse(config: Configuration, destination: string): ServiceConfiguration[] {
  const services = Object.values(config.services).filter((service) => service.destinations.includes(destination))
  if (services.length > 0) return services
  throw new RegainError('usage', `No service keeps backups at the destination ${destination}. Nothing was checked.`, {
    hint: `Name it under destinations: of a service in ${config.path}.`,
  })
}

export function drill(): never {
  throw notInThisVersion(
    'Drilling on a schedule with a certificate',
    'Rehearse by hand: regain restore SERVICE --to DIR --start restores for real, starts the database and says what it reached.',
  )
}
