import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { FetchStep, RepairPlan, RepairStep, Repository, UnmendedProblem } from '../repository/api.ts'
import type { Application, Reporting } from './context.ts'
import { asRegainError } from './failures.ts'
import { withRepository } from './repositories.ts'
import { acceptLoss } from './seen.ts'
import { destinationsOf, selectService } from './targets.ts'

export interface RepairRequest {
  service: string
  destination?: string
  /** Bring what is lost from this destination only. Default: from every other one of the service, until nothing is missing. */
  from?: string
  /** Look for damage in every byte, not only in what is there and how long it is. */
  readData: boolean
  /** Only plan. */
  isDryRun: boolean
  /** What this machine saw there and is gone, or the whole repository that was there, is given up. */
  acceptLoss: boolean
}

/** What is done here, and what is brought from another destination. */
export type AnyRepairStep = RepairStep | (FetchStep & { from: string })

export interface Fetched {
  from: string
  chunks: number
  bytes: number
  logObjects: number
}

export interface RepairOutcome {
  service: string
  destination: string
  isDryRun: boolean
  steps: AnyRepairStep[]
  left: UnmendedProblem[]
  /** From each other destination that something was brought from, or looked for in. */
  fetched: Fetched[]
  /** Ids of points that were seen there and that are given up. */
  accepted: string[]
  durationMs: number
}

type Mended = Pick<RepairOutcome, 'steps' | 'left' | 'fetched'>

/** Plans, shows each part of the plan by `onSteps`, and carries it out, for each destination of the service. */
export async function repair(
  application: Application,
  request: RepairRequest,
  reporting: Reporting,
  onSteps: (steps: readonly AnyRepairStep[]) => void,
  onOutcome: (outcome: RepairOutcome) => void,
): Promise<RepairOutcome[]> {
  const { ambient, config } = application
  const service = selectService(config, request.service)
  const outcomes: RepairOutcome[] = []
  const chosen = destinationsOf(config, service, request.destination)
  const [from] = request.from === undefined ? [] : destinationsOf(config, service, request.from)
  const places = chosen.filter(({ name }) => name !== from?.name)
  if (places.length === 0)
    throw new RegainError('usage', `Nothing can be brought from ${from?.name} to itself. Nothing was done.`, {
      hint: 'Name with --from another destination of the service than the one that is to be repaired.',
    })
  for (const destination of places) {
    throwIfInterrupted(reporting.signal)
    const startedMs = ambient.now()
    const others = otherPlaces(application, service, destination, from, reporting)
    const outcome = await withRepository(application, service, destination, async (repository) => {
      const mended = await mend(repository, request, others, reporting, onSteps)
      const accept = request.acceptLoss && !request.isDryRun
      const accepted = accept ? await giveUp(application, repository, mended, reporting.signal) : []
      const about = { service: service.name, destination: destination.name, isDryRun: request.isDryRun }
      return { ...about, ...mended, accepted, durationMs: Math.max(0, ambient.now() - startedMs) }
    })
    outcomes.push(outcome)
    onOutcome(outcome)
  }
  return outcomes
}

/** What the repository itself says was committed and is lost, and what this machine alone remembers. */
async function giveUp(
  application: Application,
  repository: Repository,
  mended: Mended,
  signal: AbortSignal,
): Promise<string[]> {
  const lost = await repository.giveUpLostPoints(signal)
  const gone = new Set(lost.flatMap((id) => [`ends/${id}`, `sessions/${id}`, `receipts/${id}`]))
  mended.left = mended.left.filter(({ object }) => !gone.has(object))
  return [...new Set([...lost, ...(await acceptLoss(application, repository))])]
}

/** Another repository of the service, opened for as long as `use` runs. False: it could not be, and a person was told. */
export interface OtherPlace {
  name: string
  withRepository(use: (repository: Repository) => Promise<void>): Promise<void>
}

/** What is damaged is set aside first, so that what is brought back does not count as there already. */
export async function mend(
  repository: Repository,
  { readData, isDryRun }: { readData: boolean; isDryRun: boolean },
  others: readonly OtherPlace[],
  reporting: Pick<Reporting, 'signal' | 'progress'>,
  onSteps: (steps: readonly AnyRepairStep[]) => void,
): Promise<Mended> {
  const { signal, progress } = reporting
  const plan = await repository.planRepair({ readData, signal, progress })
  const done: Mended = { steps: [...plan.steps], left: plan.left, fetched: [] }
  onSteps(plan.steps)
  if (!isDryRun) await repository.repair(plan, { signal, progress })
  for (const other of others) {
    if (!done.left.some(isFetchable)) break
    throwIfInterrupted(signal)
    await other.withRepository((from) =>
      fetchFrom(repository, { ...other, repository: from }, done, isDryRun, reporting, onSteps),
    )
  }
  if (!isDryRun && done.fetched.length > 0) await tidyIndex(repository, done, reporting, onSteps)
  return done
}

/** Chunks and log; for all else a copy of the very object would be needed. */
function isFetchable({ object, hurts }: UnmendedProblem): boolean {
  return hurts.length > 0 || object.startsWith('log/')
}

async function fetchFrom(
  repository: Repository,
  other: { name: string; repository: Repository },
  done: Mended,
  isDryRun: boolean,
  { signal, progress }: Pick<Reporting, 'signal' | 'progress'>,
  onSteps: (steps: readonly AnyRepairStep[]) => void,
): Promise<void> {
  const plan = await repository.planFetch(done.left, other.repository, signal)
  if (plan.steps.length === 0) return
  const steps = plan.steps.map((step) => ({ ...step, from: other.name }))
  onSteps(steps)
  done.steps.push(...steps)
  if (isDryRun) {
    done.left = plan.left
    return
  }
  const { left, ...fetched } = await repository.fetch(plan, other.repository, { signal, progress })
  done.left = [...plan.left, ...left]
  done.fetched.push({ from: other.name, ...fetched })
}

/**
 * What only shows once the points can be read again: packs that a repair which was cut short had stored and not indexed. And a damaged
 * segment was kept as the last word on packs that nothing else described: where no point misses anything, it is of no use.
 */
async function tidyIndex(
  repository: Repository,
  done: Mended,
  { signal, progress }: Pick<Reporting, 'signal' | 'progress'>,
  onSteps: (steps: readonly AnyRepairStep[]) => void,
): Promise<void> {
  const again: RepairPlan = await repository.planRepair({ readData: false, signal, progress })
  const isWhole = done.left.every(({ hurts }) => hurts.length === 0)
  const steps = again.steps.filter(
    ({ action }) => action === 'index-packs' || (isWhole && action === 'remove-segments'),
  )
  if (steps.length === 0) return
  onSteps(steps)
  await repository.repair({ steps, left: [] }, { signal, progress })
  const gone = new Set(steps.flatMap(({ action, objects }) => (action === 'remove-segments' ? objects : [])))
  done.steps.push(...steps)
  done.left = done.left.filter(({ object }) => !gone.has(object))
}

/** One that can't be opened is told and passed over, unless it was named. */
function otherPlaces(
  application: Application,
  service: ServiceConfiguration,
  own: DestinationConfiguration,
  named: DestinationConfiguration | undefined,
  reporting: Reporting,
): OtherPlace[] {
  const others = named ? [named] : destinationsOf(application.config, service).filter(({ name }) => name !== own.name)
  return others.map((destination) => ({
    name: destination.name,
    withRepository: async (use) => {
      let isOpen = false
      try {
        await withRepository(application, service, destination, (repository) => {
          isOpen = true
          return use(repository)
        })
      } catch (error) {
        const failure = asRegainError(error, reporting.signal)
        if (isOpen || named || failure.code === 'interrupted') throw error
        reporting.warn(`Nothing could be brought from ${destination.name}: ${failure.message}`)
      }
    },
  }))
}
