import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { BegunRekey, RekeyReport, Repository } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { openKey, openServiceKey, withRepository } from './repositories.ts'
import { destinationsOf, selectService } from './targets.ts'
import { eachTenant } from './tenants.ts'

export interface RekeyOutcome extends RekeyReport {
  service: string
  destination: string
  /** Null: an earlier rekey had begun, and this one went on with it. */
  begun: BegunRekey | null
  durationMs: number
}

/**
 * Gives a service's repositories a new data key, and seals under it what they hold. Where one has begun already, goes on
 * with that. What can't be done now is in `waits`; to be called again then.
 */
export async function rekeyRepositories(
  application: Application,
  serviceName: string,
  only: string | undefined,
  reporting: Pick<Reporting, 'signal' | 'progress' | 'warn'>,
  onOutcome: (outcome: RekeyOutcome) => void,
): Promise<RekeyOutcome[]> {
  const service = selectService(application.config, serviceName)
  const outcomes: RekeyOutcome[] = []
  await rekeyOne(service)
  await eachTenant(application, service, rekeyOne, only)
  return outcomes

  async function rekeyOne(one: ServiceConfiguration): Promise<void> {
    for (const destination of destinationsOf(application.config, one, only)) await rekeyAt(one, destination)
  }

  async function rekeyAt(service: ServiceConfiguration, destination: DestinationConfiguration): Promise<void> {
    const startedMs = application.ambient.now()
    const begun = await beginUnlessBegun(application, service, destination, reporting)
    // Opened anew: in the new epoch.
    const report = await withRepository(application, service, destination, (repository) =>
      repository.rekey(reporting).catch((error: unknown) => Promise.reject(tellHowFar(error, repository))),
    )
    const durationMs = application.ambient.now() - startedMs
    const outcome = { service: service.name, destination: destination.name, begun, ...report, durationMs }
    onOutcome(outcome)
    outcomes.push(outcome)
  }
}

/** Whoever reads of a full disk in the middle of it must hear which key opens what. */
function tellHowFar(error: unknown, { keyEpoch }: Repository): unknown {
  if (!isRegainError(error)) return error
  return new RegainError(
    error.code,
    `${error.message} The rekey is not done: key epoch ${keyEpoch.current} is in use for everything new, and the old data key still opens what was stored before. Nothing is lost.`,
    { hint: `${error.hint} Then give the same command again: it goes on where it stopped.`, cause: error },
  )
}

function beginUnlessBegun(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  reporting: Pick<Reporting, 'warn'>,
): Promise<BegunRekey | null> {
  return withRepository(application, service, destination, async (repository) => {
    const { current, oldest } = repository.keyEpoch
    if (oldest < current) return null
    return repository.beginRekey(await keysAtHand(application, service, repository, reporting))
  })
}

/** The service's key first, then each other of the configuration that opens the repository. */
async function keysAtHand(
  application: Application,
  service: ServiceConfiguration,
  repository: Repository,
  { warn }: Pick<Reporting, 'warn'>,
): Promise<{ provider: KeyProvider; label: string }[]> {
  const atHand = [{ provider: await openServiceKey(application, service), label: service.key }]
  for (const name of Object.keys(application.config.keys)) {
    if (name === service.key) continue
    try {
      const provider = await openKey(application, name)
      if (await opens(provider, repository)) atHand.push({ provider, label: name })
    } catch (error) {
      if (!isRegainError(error, 'key-unavailable') && !isRegainError(error, 'config-invalid')) throw error
      warn(`The key ${name} can't be used now, so it will not open what is stored from now on: ${error.message}`)
    }
  }
  return atHand
}

async function opens(provider: KeyProvider, repository: Repository): Promise<boolean> {
  for (const wrapped of await repository.keys()) {
    const key = await provider.unwrap(wrapped, wrapped)
    key?.fill(0)
    if (key !== null) return true
  }
  return false
}
