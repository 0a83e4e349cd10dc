import type { Catalog } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import { isRegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { type Decision, planSchedule, type RunFact, type ScheduleRule } from '../policy/schedule.ts'
import type { JobQueue } from './job-queue.ts'
import type { DaemonWork } from './work.ts'

/** When a service's repository at a destination is pruned. */
export interface PruneRule {
  service: string
  destination: string
  /** Five fields. */
  cron: string
  timeZone: string
}

export interface Pruner {
  /** Starts what is due; resolves to the milliseconds until it should be asked again. */
  turn(): number
  /** Takes the rules and the work of a new configuration; what runs goes on. */
  replace(rules: readonly PruneRule[], work: DaemonWork): void
}

export interface PrunerOptions {
  rules: readonly PruneRule[]
  work: DaemonWork
  catalog(): Catalog
  /** That of the backups, so that none of ours runs beside a prune and makes it leave things for the next one. */
  queue: JobQueue
  ambient: Ambient
  signal: AbortSignal
  /** Called after a job has ended. */
  onEnd(): void
}

const JITTER_MS = 10 * 60_000
/** As in the scheduler: a failure may be that nothing could be noted. */
const PAUSE_AFTER_FAILURE_MS = 30_000
const RUNS_CONSIDERED = 100

/** Prunes by schedule, with the promises of policy/schedule.ts: caught up after downtime, tried again after a failure. */
export function createPruner(options: PrunerOptions): Pruner {
  const { ambient, queue, signal } = options
  let { rules, work } = options
  const pausedUntil = new Map<string, number>()

  return {
    replace(newRules, newWork) {
      rules = newRules
      work = newWork
    },
    turn() {
      const now = ambient.now()
      const { decisions, wakeAt } = planSchedule(rules.map(scheduleRule), rules.flatMap(facts), now)
      for (const decision of decisions) act(decision)
      return Math.max(0, (wakeAt ?? Infinity) - now)
    },
  }

  function facts({ service, destination }: PruneRule): RunFact[] {
    const runs = () =>
      options
        .catalog()
        .runs({ operation: 'prune', service, source: '', limit: RUNS_CONSIDERED })
        .filter((run) => run.destination === destination)
    // Called running though nobody has the lock: it was cut short, and taking the lock notes that.
    if (!queue.has(keyOf(service, destination)) && runs().some(({ outcome }) => outcome === 'running'))
      options.catalog().tryLockPrune(service, destination, 'regain serve, looking')?.release()
    return runs().map((run) => ({ ...run, source: destination, destination, kind: 'full' }))
  }

  function act({ rule, state, reason }: Decision): void {
    const { service, destination } = rule
    const key = keyOf(service, destination)
    if (state !== 'due' || (pausedUntil.get(key) ?? 0) > ambient.now()) return
    queue.offer(key, async () => {
      const about = { service, destination }
      ambient.log('info', 'A prune begins.', { ...about, reason: reason.replace(/^first backup.*/, 'the first one') })
      try {
        const { expired, packs, logSegments, bytesFreed, bytesLater, waits } = await work.prune(
          service,
          destination,
          signal,
        )
        for (const wait of waits) ambient.log('info', wait, about)
        ambient.log('info', 'What retention does not keep is removed.', {
          ...about,
          points: expired.length,
          packs: packs.removed,
          logSegments,
          bytesFreed,
          bytesLater,
        })
      } catch (error) {
        const { code, message } = describeError(error)
        pausedUntil.set(key, ambient.now() + PAUSE_AFTER_FAILURE_MS)
        // Someone prunes by hand at this moment, which serves as well.
        const level = isRegainError(error, 'precondition-failed') || signal.aborted ? 'warning' : 'error'
        ambient.log(level, `The prune did not succeed: ${message}`, { ...about, code })
      }
      options.onEnd()
    })
  }
}

/** A destination stands for the source: prunes of different repositories have nothing to do with each other. */
function scheduleRule({ service, destination, cron, timeZone }: PruneRule): ScheduleRule {
  return { service, source: destination, destination, kind: 'full', cron, timeZone, window: null, jitterMs: JITTER_MS }
}

/** Names of sources hold no blank. */
function keyOf(service: string, destination: string): string {
  return `prune ${service}@${destination}`
}
