import type { Catalog } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import { isRegainError } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import { type Decision, planSchedule, type RunFact, type ScheduleRule } from '../policy/schedule.ts'
import type { JobQueue } from './job-queue.ts'
import { type DaemonWork, nameOf, type SourceName } from './work.ts'

export interface Scheduler {
  /** Starts what is due; resolves to the milliseconds until it should be asked again, at most a minute. */
  turn(): Promise<number>
  /** Takes the rules and the work of a new configuration; what runs goes on. */
  replace(rules: readonly ScheduleRule[], work: DaemonWork): void
}

export interface SchedulerOptions {
  rules: readonly ScheduleRule[]
  work: DaemonWork
  catalog(): Catalog
  queue: JobQueue
  ambient: Ambient
  signal: AbortSignal
  /** Called after a job has ended. */
  onEnd(): void
}

/** The plan is made anew at least so often: clocks are set, machines sleep, and other processes end their runs. */
const LONGEST_WAIT_MS = 60_000
/**
 * A job that failed is not begun again sooner, whatever the policy says: it decides by what the state file knows, and a
 * failure may be that nothing could be noted there.
 */
const PAUSE_AFTER_FAILURE_MS = 30_000
/** Enough for every attempt of several days; older runs decide nothing. */
const RUNS_CONSIDERED = 300

/** Backups by schedule: asks the policy, and has the work done through the queue. */
export function createScheduler(options: SchedulerOptions): Scheduler {
  const { ambient, queue, signal } = options
  let { rules, work } = options
  /** Services whose points are known; until then, nobody knows whether a backup is owed. */
  const learned = new Set<string>()
  /** The last thing said about a source, so that it is said once. */
  const said = new Map<string, string>()
  const pausedUntil = new Map<string, number>()

  return {
    replace(newRules, newWork) {
      rules = newRules
      work = newWork
      learned.clear()
    },
    async turn() {
      for (const service of new Set(rules.map((rule) => rule.service))) await learn(service)
      const known = rules.filter((rule) => learned.has(rule.service))
      const now = ambient.now()
      const { decisions, wakeAt } = planSchedule(known, facts(known), now)
      for (const decision of decisions) act(decision)
      return Math.max(0, Math.min(LONGEST_WAIT_MS, (wakeAt ?? Infinity) - now))
    },
  }

  /** Reads a service's points once, so that a lost state file does not look like a service without a backup. */
  async function learn(service: string): Promise<void> {
    if (learned.has(service) || signal.aborted) return
    try {
      const points = await work.points(service)
      const count = options.catalog().learnPoints(points.map(toLearned))
      learned.add(service)
      if (count > 0) ambient.log('info', 'Points were learned from the repository.', { service, points: count })
    } catch (error) {
      const { code, message } = describeError(error)
      tell(service, 'error', `No backups are started, because the repository cannot be asked: ${message}`, {
        service,
        code,
      })
    }
  }

  function facts(known: readonly ScheduleRule[]): RunFact[] {
    const sources = new Map(known.map((rule) => [nameOf(rule), rule]))
    return [...sources.values()].flatMap((name) => {
      if (!queue.has(nameOf(name))) noticeCutShort(name)
      const { service, source } = name
      const runs = options.catalog().runs({ operation: 'backup', service, source, limit: RUNS_CONSIDERED })
      return runs.map((run) => ({ ...run, kind: run.kind ?? 'incremental' }))
    })
  }

  /** A run that is called running though nobody has the source's lock was cut short; taking the lock notes that. */
  function noticeCutShort({ service, source }: SourceName): void {
    const newest = options.catalog().runs({ operation: 'backup', service, source, limit: 10 })
    if (!newest.some((run) => run.outcome === 'running')) return
    options.catalog().tryLockSource(service, source, 'regain serve, looking')?.release()
  }

  function act({ rule, state, reason }: Decision): void {
    const name = nameOf(rule)
    if (state !== 'due' || (pausedUntil.get(name) ?? 0) > ambient.now()) return
    const run = async () => {
      ambient.log('info', 'A backup begins.', { source: name, kind: rule.kind, reason })
      try {
        await work.backup(rule, rule.kind, signal)
      } catch (error) {
        const { code, message } = describeError(error)
        pausedUntil.set(name, ambient.now() + PAUSE_AFTER_FAILURE_MS)
        // Someone runs it by hand at this moment: that run serves as well, or the next turn finds it still owed.
        const level = isRegainError(error, 'precondition-failed') || signal.aborted ? 'warning' : 'error'
        ambient.log(level, `The backup did not succeed: ${message}`, { source: name, kind: rule.kind, code })
      }
      options.onEnd()
    }
    queue.offer(name, run)
  }

  function tell(about: string, level: 'error', message: string, fields: Record<string, unknown>): void {
    if (said.get(about) === message) return
    said.set(about, message)
    ambient.log(level, message, fields)
  }
}

function toLearned(point: Point) {
  return {
    service: point.service,
    source: point.source,
    kind: point.kind,
    point: point.id,
    startedAt: Date.parse(point.startedAt),
    committedAt: Date.parse(point.committedAt),
    missed: point.missedCount,
    bytes: point.bytes,
    files: point.entries,
  }
}
