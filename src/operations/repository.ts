import type { Application, Reporting } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { ensureRepository } from './repositories.ts'
import { destinationsOf, selectTargets } from './targets.ts'
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
): Promise<EnsuredRepository[]> {
  const ensured: EnsuredRepository[] = []
  for (const { service } of selectTargets(application.config, serviceName)) {
    for (const destination of destinationsOf(application.config, service)) {
      const isNew = await ensureRepository(application, service, destination)
      ensured.push({ service: service.name, destination: destination.name, isNew })
    }
  }
  return ensured
}

/** Whether every object that points and logs need is there with its right size; no content is read. */
export async function checkRepositories(
  application: Application,
  serviceName: string | undefined,
  reporting: Reporting,
  onOutcome: (outcome: VerifyOutcome) => void,
): Promise<VerifyOutcome[]> {
  const outcomes: VerifyOutcome[] = []
  for (const { service } of selectTargets(application.config, serviceName)) {
    outcomes.push(...(await verify(application, { target: service.name, readData: false }, reporting, onOutcome)))
  }
  return outcomes
}

export function rekeyRepository(): never {
  throw notInThisVersion('Sealing a repository under new data keys', 'Make a new repository at another destination.')
}

export function drill(): never {
  throw notInThisVersion(
    'Drilling on a schedule with a certificate',
    'Rehearse by hand: regain restore SERVICE --to DIR --start restores for real, starts the database and says what it reached.',
  )
}
