import { throwIfInterrupted } from '../errors.ts'
import type { RepairPlan } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { withRepository } from './repositories.ts'
import { acceptLoss } from './seen.ts'
import { destinationsOf, selectService } from './targets.ts'

export interface RepairRequest {
  service: string
  destination?: string
  /** Look for damage in every byte, not only in what is there and how long it is. */
  readData: boolean
  /** Only plan. */
  isDryRun: boolean
  /** What this machine saw there and is gone, or the whole repository that was there, is given up. */
  acceptLoss: boolean
}

export interface RepairOutcome extends RepairPlan {
  service: string
  destination: string
  isDryRun: boolean
  /** Ids of points that were seen there and that are given up. */
  accepted: string[]
  durationMs: number
}

/** Plans, shows by `onPlan`, and carries out, for each destination of the service. What can't be mended is in `left`. */
export async function repair(
  application: Application,
  request: RepairRequest,
  reporting: Reporting,
  onPlan: (outcome: Omit<RepairOutcome, 'durationMs' | 'accepted'>) => void,
  onOutcome: (outcome: RepairOutcome) => void,
): Promise<RepairOutcome[]> {
  const { ambient, config } = application
  const service = selectService(config, request.service)
  const { signal, progress } = reporting
  const outcomes: RepairOutcome[] = []
  for (const destination of destinationsOf(config, service, request.destination)) {
    throwIfInterrupted(signal)
    const startedMs = ambient.now()
    const planned = await withRepository(application, service, destination, async (repository) => {
      const plan = await repository.planRepair({ readData: request.readData, signal, progress })
      const about = { ...plan, service: service.name, destination: destination.name, isDryRun: request.isDryRun }
      onPlan(about)
      if (request.isDryRun) return { ...about, accepted: [] }
      await repository.repair(plan, { signal, progress })
      return { ...about, accepted: request.acceptLoss ? await acceptLoss(application, repository) : [] }
    })
    const outcome: RepairOutcome = { ...planned, durationMs: Math.max(0, ambient.now() - startedMs) }
    outcomes.push(outcome)
    onOutcome(outcome)
  }
  return outcomes
}
