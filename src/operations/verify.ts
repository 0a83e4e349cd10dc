import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { isRegainError, throwIfInterrupted } from '../errors.ts'
import type { VerifyProblem, VerifyReport } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { findGaps, withGaps } from './point-gaps.ts'
import { withRepository } from './repositories.ts'
import { checkSeen } from './seen.ts'
import { destinationsOf, selectTarget } from './targets.ts'
import { eachTenant } from './tenants.ts'

export interface VerifyRequest {
  /** SERVICE or SERVICE/SOURCE. */
  target: string
  readData: boolean
  destination?: string
}

export interface VerifyOutcome extends VerifyReport {
  service: string
  source: string | null
  destination: string
  durationMs: number
}

/** Checks what each destination of the service holds, and its tenants'. Damage is in the outcome's problems, not a rejection. */
export async function verify(
  application: Application,
  request: VerifyRequest,
  reporting: Reporting,
  onOutcome: (outcome: VerifyOutcome) => void,
): Promise<VerifyOutcome[]> {
  const { ambient, config } = application
  const { service, sources, isOneSource } = selectTarget(config, request.target)
  const source = isOneSource ? sources[0]!.name : undefined
  const outcomes: VerifyOutcome[] = []
  for (const destination of destinationsOf(config, service, request.destination)) {
    await verifyOne(service, destination)
    await eachTenant(
      application,
      service,
      async (tenant) => {
        if (isOneSource && !Object.hasOwn(tenant.sources, source!)) return
        await verifyOne(tenant, destination).catch((error: unknown) => tellMissing(tenant, destination, error))
      },
      destination.name,
    )
  }
  return outcomes

  /** That a tenant's repository is gone is damage of the service's backups. */
  function tellMissing(tenant: ServiceConfiguration, destination: DestinationConfiguration, error: unknown): void {
    if (!isRegainError(error, 'repository-not-found')) throw error
    const detail = `${error.message} It was to be made, so it was lost; or a backup was cut short right then, and the next one makes it.`
    const problem: VerifyProblem = { object: 'repository.json', kind: 'missing', detail, hurts: [] }
    const outcome: VerifyOutcome = {
      service: tenant.name,
      source: source ?? null,
      destination: destination.name,
      points: 0,
      packs: 0,
      logSegments: 0,
      bytesRead: 0,
      problems: [problem],
      durationMs: 0,
    }
    outcomes.push(outcome)
    onOutcome(outcome)
  }

  async function verifyOne(one: ServiceConfiguration, destination: DestinationConfiguration): Promise<void> {
    throwIfInterrupted(reporting.signal)
    const startedMs = ambient.now()
    const { signal, progress } = reporting
    const report = await withRepository(application, one, destination, async (repository) => {
      const setBack = await checkSeen(application, destination.name, repository, () => repository.points())
      const found = await repository.verify({ readData: request.readData, source, signal, progress })
      const gaps = await findGaps(application, repository, source)
      return { ...found, problems: withGaps(withSetBack(found.problems, setBack), gaps) }
    })
    const outcome: VerifyOutcome = {
      ...report,
      service: one.name,
      source: source ?? null,
      destination: destination.name,
      durationMs: Math.max(0, ambient.now() - startedMs),
    }
    outcomes.push(outcome)
    onOutcome(outcome)
  }
}

/** What verification found by itself is not told twice. */
function withSetBack(problems: readonly VerifyProblem[], setBack: readonly VerifyProblem[]): VerifyProblem[] {
  const known = new Set(problems.map(({ object }) => object))
  return [...setBack.filter(({ object }) => !known.has(object)), ...problems]
}
